"""How fast weights come from a file to a device, beside what the disk gives and what the bus takes."""

import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.runtime.pages import read_in
from mochi_aot.runtime.torch.gpu.uploads import CHUNK_BYTES, Copier, CudaCopier, Ring
from mochi_aot.tools.benchmarks.file_cache import evict, warm
from mochi_aot.tools.benchmarks.raw_reads import read_raw
from mochi_aot.tools.benchmarks.step_benchmark import ResultsDifferError
from mochi_aot.tools.benchmarks.timing import seconds_of

PIECE_BYTES = 64 << 20  # a weight, here


@dataclass(frozen=True)
class Loading:
    """Bytes a second, None for what this host cannot measure: a file system without direct reads, or one that keeps
    what it is asked to drop.

    `cold` and `warm` are by the ring, with the file on the disk and in the file cache; `plain` is a copy from the
    mapped file that is cached; `disk` are direct reads, `bus` copies out of one pinned buffer.
    """

    nbytes: int
    disk: float | None
    bus: float
    cold: float | None
    warm: float
    plain: float


class PlainTicket:
    """A copy that was over when it began."""

    def synchronize(self) -> None:
        """See Ticket."""

    def hand_over(self, tensor: torch.Tensor) -> None:
        """See Ticket."""


class PlainCopier:
    """Copies within the host's memory."""

    def staging(self, nbytes: int) -> torch.Tensor:
        """See Copier."""
        return torch.empty(nbytes, dtype=torch.uint8)

    def empty(self, like: torch.Tensor) -> torch.Tensor:
        """See Copier."""
        return torch.empty_like(like)

    def start(self, out: torch.Tensor, source: torch.Tensor) -> PlainTicket:
        """See Copier."""
        out.copy_(source)
        return PlainTicket()


def measure_loading(folder: Path, nbytes: int, device: torch.device) -> Loading:
    """Write a file of `nbytes` to `folder` for a while and load it each way.

    Raise ResultsDifferError if other bytes arrive.
    """
    path = folder / "weights"
    try:
        _write(path, nbytes)
        return _measured(path, nbytes, device)
    finally:
        path.unlink(missing_ok=True)


def _measured(path: Path, nbytes: int, device: torch.device) -> Loading:
    copier: Copier = CudaCopier(device) if device.type == "cuda" else PlainCopier()
    ring = Ring(copier)

    def by_ring() -> list[torch.Tensor]:
        return _loaded(path, nbytes, ring, device)

    def plainly() -> list[torch.Tensor]:
        made = [_tensor(piece).to(device, copy=True) for piece in _pieces(path, nbytes)]
        _wait_for(device)
        return made

    warm([path])
    _check(by_ring(), _pieces(path, nbytes))
    rates = {"warm": nbytes / seconds_of(by_ring), "plain": nbytes / seconds_of(plainly)}
    bus = nbytes / _seconds_of_bus(copier, nbytes, device)
    cold = _cold(path, nbytes, by_ring)
    return Loading(nbytes, _disk(path), bus, cold, **rates)


def _loaded(path: Path, nbytes: int, ring: Ring, device: torch.device) -> list[torch.Tensor]:
    """Bring all pieces to the device, each while the next one is read from the disk."""
    made, pieces = [], _pieces(path, nbytes)
    with ThreadPoolExecutor(1) as reader:
        reads = [reader.submit(read_in, piece, path, i * PIECE_BYTES) for i, piece in enumerate(pieces)]
        for read, piece in zip(reads, pieces, strict=True):
            read.result()
            tensor, ticket = ring.send(_tensor(piece))
            ticket.hand_over(tensor)
            made.append(tensor)
    _wait_for(device)
    return made


def _seconds_of_bus(copier: Copier, nbytes: int, device: torch.device) -> float:
    """Return the seconds of copies out of one buffer, as many as make `nbytes`."""
    staged = copier.staging(min(CHUNK_BYTES, nbytes))
    out = copier.empty(staged)

    def run() -> None:
        for _ in range(0, nbytes, len(staged)):
            copier.start(out, staged).hand_over(out)
        _wait_for(device)

    run()
    return seconds_of(run) * nbytes / (-(-nbytes // len(staged)) * len(staged))


def _disk(path: Path) -> float | None:
    try:
        read = read_raw([path], direct=True)
    except OSError:
        return None
    return read.nbytes / read.seconds


def _cold(path: Path, nbytes: int, load: Callable[[], object]) -> float | None:
    try:
        evict([path])
    except MochiError:
        return None
    return nbytes / seconds_of(load)


def _check(made: list[torch.Tensor], pieces: list[memoryview]) -> None:
    for tensor, piece in zip(made, pieces, strict=True):
        if not torch.equal(tensor.cpu(), _tensor(piece)):
            raise ResultsDifferError("other bytes arrived on the device than the file has: not timed")


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _tensor(piece: memoryview) -> torch.Tensor:
    return torch.frombuffer(piece, dtype=torch.uint8)


def _pieces(path: Path, nbytes: int) -> list[memoryview]:
    """Return the file in pieces, which stay mapped as long as anything uses them."""
    with path.open("rb") as stream:
        # Not shared, so that torch need not warn of a buffer that cannot be written.
        view = memoryview(mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE))
    return [view[start : start + PIECE_BYTES] for start in range(0, nbytes, PIECE_BYTES)]


def _write(path: Path, nbytes: int) -> None:
    """Write bytes of which no two pieces are the same."""
    block = np.random.default_rng(0).integers(0, 256, min(nbytes, PIECE_BYTES), np.uint8)
    with path.open("wb") as stream:
        for start in range(0, nbytes, PIECE_BYTES):
            block ^= np.uint8(1 + start // PIECE_BYTES % 255)
            stream.write(block[: nbytes - start].data)
