"""In the place of a GPU's copies: such that begin at once, and write nothing before someone waits for them."""

import torch


class LateCopy:
    """A copy that reads its source as late as a GPU may: when someone waits for it, or for a later one."""

    def __init__(self, copier: "LateCopier", out: torch.Tensor, source: torch.Tensor) -> None:
        self.copier, self.out, self.source, self.over = copier, out, source, False

    def synchronize(self) -> None:
        """Do this copy and all that were begun before it."""
        while not self.over:
            first = self.copier.begun.pop(0)
            first.out.copy_(first.source)
            first.over = True

    def hand_over(self, tensor: torch.Tensor) -> None:
        self.synchronize()


class LateCopier:
    """Memory of the host in the place of a GPU's, filled with poison; counts what it was asked for."""

    def __init__(self) -> None:
        self.begun: list[LateCopy] = []
        self.buffers = 0
        self.largest = 0

    def staging(self, nbytes: int) -> torch.Tensor:
        self.buffers += 1
        return torch.full((nbytes,), 0xAB, dtype=torch.uint8)

    def empty(self, like: torch.Tensor) -> torch.Tensor:
        memory = torch.full((like.numel() * like.element_size(),), 0xCD, dtype=torch.uint8)
        return memory.view(like.dtype).view(like.shape)

    def start(self, out: torch.Tensor, source: torch.Tensor) -> LateCopy:
        self.largest = max(self.largest, len(source))
        self.begun.append(LateCopy(self, out, source))
        return self.begun[-1]
