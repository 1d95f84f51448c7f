"""Memory that is used again: fresh pages cost more time than most copies into them."""

import mmap
import threading
from collections import deque

import torch

HUGE_PAGE = 2 << 20
KEPT_BYTES = 512 << 20  # unused memory beyond this is given back


class Arena:
    """Gives page-aligned tensors of bytes and takes them back; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: deque[torch.Tensor] = deque()
        self._kept = 0

    def acquire(self, nbytes: int) -> torch.Tensor:
        """Return a tensor of at least `nbytes` bytes, with anything in it."""
        size = _rounded(nbytes)
        with self._lock:
            for index, tensor in enumerate(self._free):
                if tensor.numel() == size:
                    del self._free[index]
                    self._kept -= size
                    return tensor
        memory = mmap.mmap(-1, size)
        if size >= HUGE_PAGE:
            memory.madvise(mmap.MADV_HUGEPAGE)
        return torch.frombuffer(memory, dtype=torch.uint8)

    def release(self, tensor: torch.Tensor) -> None:
        """Take back what `acquire` gave; nothing else may refer to it."""
        with self._lock:
            self._free.append(tensor)
            self._kept += tensor.numel()
            while self._kept > KEPT_BYTES:
                self._kept -= self._free.popleft().numel()


def _rounded(nbytes: int) -> int:
    unit = HUGE_PAGE if nbytes >= HUGE_PAGE else mmap.PAGESIZE
    return max(-(-nbytes // unit), 1) * unit
