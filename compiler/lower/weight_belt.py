"""Puts weights into a bundle: each one once, taken over where an earlier compile has made it, or else made anew.

Both targets do it by this one call; what differs is the parts in which a weight is made, and how they are written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol, Self

import torch

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.artifacts.layout import FileGroup
from mochi_aot.compiler.lower.conveyor import Conveyor
from mochi_aot.compiler.lower.origin import Origin

GROUP_BYTES = 64 << 20  # of one weight's pieces that one thread makes together


@dataclass(frozen=True)
class Part[T]:
    """Some of a weight: `make` makes it, in any thread, and holds `nbytes` until it was written."""

    nbytes: int
    make: Callable[[], T]


class Making[T](Protocol):
    """How one weight is made and written."""

    @property
    def name(self) -> str:
        """The weight's name in the bundle, the same for equal weights."""

    @property
    def group(self) -> FileGroup:
        """Which files its shards go to, the same however it comes into the bundle."""

    def source(self) -> str:
        """Return what the weight is made of and how, as a hash: see weights.weight_source."""

    def parts(self) -> list[Part[T]]:
        """Return the weight's parts, at least one, in the order in which they are written."""

    def write(self, made: T) -> None:
        """Write one part, in the one thread that writes."""

    def finished(self, source: str) -> schema.Weight:
        """Return the bundle's entry of the weight, all parts of which were written."""


class WeightBelt:
    """Context manager: weights are made in several threads and written, in the order in which they were put, in one."""

    def __init__(self, writer: BundleWriter, window: int) -> None:
        """Let what was made and not yet written take `window` bytes at most."""
        self._writer = writer
        self._conveyor = Conveyor(window, start=single_thread)
        self._asked: set[str] = set()

    def __enter__(self) -> Self:
        self._conveyor.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._conveyor.__exit__(kind, error, trace)

    def put[T](self, weight: Making[T], done: Callable[[], None] = lambda: None) -> None:
        """Have a weight put into the bundle, and `done` called then; nothing happens where it was asked for before."""
        if weight.name in self._asked:
            return
        self._asked.add(weight.name)
        origin = Origin(self._writer.reusable, weight.name, weight.source)
        parts = weight.parts()
        for index, part in enumerate(parts):
            take = partial(self._take, weight, origin, index == 0, index == len(parts) - 1, done)
            self._conveyor.put(part.nbytes, partial(_make, part, origin), take)

    def _take[T](
        self, weight: Making[T], origin: Origin, first: bool, last: bool, done: Callable[[], None], made: T | None
    ) -> None:
        earlier = origin.made_before()
        if earlier is not None:
            if first:
                self._writer.add_reusable(earlier, weight.group)
                done()
            return
        assert made is not None
        weight.write(made)
        if last:
            self._writer.add_weight(weight.finished(origin.source()))
            done()


def _make[T](part: Part[T], origin: Origin) -> T | None:
    """Return what a part is made into; nothing where an earlier compile has made the weight."""
    if origin.made_before() is not None:
        return None
    made = part.make()
    origin.source()  # in this thread, of which there are several, and while the file cache has all that it hashes
    return made


def single_thread() -> None:
    """Have this thread's tensor operations use no others: there are as many such threads as processors."""
    torch.set_num_threads(1)
