"""Tensors on their way between the processes along one axis of the mesh."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist

Wait = Callable[[], None]


class LostError(RuntimeError):
    """Another process of the run cannot be reached any more."""


@contextmanager
def reaching() -> Iterator[None]:
    """Make LostErrors of what torch.distributed raises."""
    try:
        yield
    except RuntimeError as error:
        raise LostError(str(error).partition("\n")[0]) from error


def as_bytes(x: torch.Tensor) -> torch.Tensor:
    """Return a contiguous tensor as a vector of bytes, the same memory: libraries do not move every dtype."""
    return x.view(-1).view(torch.uint8)


class Axis:
    """The processes of this one's row or column, in the order of their coordinates.

    Only moves tensors, and leaves the arithmetic to its callers: so results do not depend on how a library adds.
    """

    def __init__(self, members: Sequence[int], coordinate: int, group: dist.ProcessGroup) -> None:
        """`members` are ranks; this process is the one at `coordinate`."""
        self.size, self.coordinate = len(members), coordinate
        self._members, self._group = members, group

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tensors of all processes, [size, *x.shape]. They have equal shapes."""
        if self.size == 1:
            return x.unsqueeze(0)
        x = x.contiguous()
        gathered = x.new_empty((self.size, *x.shape))
        with reaching():
            dist.all_gather_into_tensor(as_bytes(gathered), as_bytes(x), self._group)
        return gathered

    def exchange(self, pieces: torch.Tensor) -> torch.Tensor:
        """Give pieces[c] [size, ...] to the process at coordinate c; return what all gave this one, [size, ...]."""
        if self.size == 1:
            return pieces
        pieces = pieces.contiguous()
        received = torch.empty_like(pieces)
        with reaching():
            dist.all_to_all_single(as_bytes(received), as_bytes(pieces), group=self._group)
        return received

    def start(self, sends: Mapping[int, torch.Tensor], receives: Mapping[int, torch.Tensor]) -> Wait:
        """Begin to send tensors to some coordinates, and to fill contiguous ones from some. Return what waits for it.

        Both sides know what goes from whom to whom: one tensor at most.
        """
        out = [(dist.isend, as_bytes(x.contiguous()), to) for to, x in sends.items()]
        into = [(dist.irecv, as_bytes(x), source) for source, x in receives.items()]
        operations = [dist.P2POp(op, x, self._members[other], self._group) for op, x, other in out + into]
        if not operations:
            return lambda: None
        with reaching():
            works = dist.batch_isend_irecv(operations)

        def wait() -> None:
            with reaching():
                for work in works:
                    work.wait()
            operations.clear()  # until then the tensors that are sent have to stay

        return wait
