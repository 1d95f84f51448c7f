"""Weights to a GPU through a ring of pinned buffers, by a thread that runs ahead of the programs.

A copy from mapped files would be staged by the driver, a piece at a time, while the program waits. Here a piece is
copied into a pinned buffer while the GPU fetches those before it, and programs compute meanwhile.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Protocol

import torch

from mochi_aot.runtime.torch.types import Value

CHUNK_BYTES = 32 << 20
SLOTS = 4


class Ticket(Protocol):
    """A copy that was started."""

    def synchronize(self) -> None:
        """Return when the copy is over."""

    def hand_over(self, tensor: torch.Tensor) -> None:
        """Let what the calling thread does on the device from now on come after the copy, and use the tensor."""


class Copier(Protocol):
    """Copies to a device in the order in which copies are started, without waiting for them."""

    def staging(self, nbytes: int) -> torch.Tensor:
        """Return a buffer on the host that the device can read from, uint8 [nbytes]."""

    def empty(self, like: torch.Tensor) -> torch.Tensor:
        """Return memory on the device for a tensor of this shape and dtype."""

    def start(self, out: torch.Tensor, source: torch.Tensor) -> Ticket:
        """Begin to copy `source`, part of a buffer of `staging`, to `out` on the device, both uint8 [n]."""


class CudaTicket:
    """The end of a copy, as an event on the stream that copies."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        """Mark where the stream is now."""
        self._event, self._device = torch.cuda.Event(blocking=True), stream.device
        self._event.record(stream)

    def synchronize(self) -> None:
        """See Ticket."""
        self._event.synchronize()

    def hand_over(self, tensor: torch.Tensor) -> None:
        """See Ticket."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._event)
        tensor.record_stream(stream)  # once freed, it is not written before the programs' stream is done with it


class CudaCopier:
    """Copies on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def staging(self, nbytes: int) -> torch.Tensor:
        """See Copier."""
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def empty(self, like: torch.Tensor) -> torch.Tensor:
        """See Copier. The memory is the stream's: no kernel of another one still works in what was freed before."""
        with torch.cuda.stream(self._stream):
            return torch.empty(like.shape, dtype=like.dtype, device=self._device)

    def start(self, out: torch.Tensor, source: torch.Tensor) -> CudaTicket:
        """See Copier."""
        with torch.cuda.stream(self._stream):
            out.copy_(source, non_blocking=True)
            return CudaTicket(self._stream)


@dataclass
class _Slot:
    buffer: torch.Tensor
    ticket: Ticket | None = None


class Ring:
    """Buffers that are filled in turn. A buffer is filled again when the copy out of it is over."""

    def __init__(self, copier: Copier, chunk_bytes: int = CHUNK_BYTES, slots: int = SLOTS) -> None:
        """Take no memory before the first tensor is sent."""
        self._copier, self._chunk, self._count = copier, chunk_bytes, slots
        self._slots: list[_Slot] = []
        self._turn = 0

    def send(self, source: torch.Tensor) -> tuple[torch.Tensor, Ticket]:
        """Begin to copy a contiguous tensor of the host to the device; return the copy, and when it is whole."""
        out = self._copier.empty(source)
        flat_out, flat_source = (x.reshape(-1).view(torch.uint8) for x in (out, source))
        ticket = self._piece(flat_out, flat_source, 0)
        for start in range(self._chunk, len(flat_source), self._chunk):
            ticket = self._piece(flat_out, flat_source, start)
        return out, ticket

    def _piece(self, out: torch.Tensor, source: torch.Tensor, start: int) -> Ticket:
        stop = min(start + self._chunk, len(source))
        slot = self._next()
        staged = slot.buffer[: stop - start]
        staged.copy_(source[start:stop])
        slot.ticket = self._copier.start(out[start:stop], staged)
        return slot.ticket

    def _next(self) -> _Slot:
        if len(self._slots) < self._count:
            self._slots.append(_Slot(self._copier.staging(self._chunk)))
            return self._slots[-1]
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % self._count
        if slot.ticket is not None:
            slot.ticket.synchronize()
        return slot


_Sent = list[tuple[torch.Tensor, Ticket]]


class Upload:
    """A value that is on its way, or will be."""

    def __init__(self, future: "Future[_Sent]") -> None:
        self._future = future

    def value(self) -> Value:
        """Return the value on the device, once all copies were started. Raise what making it raised."""
        sent = self._future.result()
        for tensor, ticket in {id(tensor): (tensor, ticket) for tensor, ticket in sent}.values():
            ticket.hand_over(tensor)
        return [tensor for tensor, _ in sent]

    def cancel(self) -> bool:
        """Keep it from being made. Return False if that has begun."""
        return self._future.cancel()

    def settle(self) -> None:
        """Return when nothing is made of it any more."""
        wait([self._future])


def call_off(uploads: Sequence[Upload]) -> None:
    """Cancel uploads, and return when the one that has begun is over: nobody asks for its bytes any more, then."""
    begun = [upload for upload in uploads if not upload.cancel()]
    for upload in begun:
        upload.settle()


class Uploads:
    """A thread that makes values on the host and sends them to the device, in the order in which they are asked for.

    It is a daemon, so that a process that ends does not wait for weights.
    """

    def __init__(self, copier: Copier, chunk_bytes: int = CHUNK_BYTES, slots: int = SLOTS) -> None:
        self._ring = Ring(copier, chunk_bytes, slots)
        self._orders: queue.SimpleQueue[tuple[Future[_Sent], Callable[[], Value]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, make: Callable[[], Value]) -> Upload:
        """Have the thread call `make`, which gives tensors of the host, and send what it gives."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
            self._thread.start()
        future: Future[_Sent] = Future()
        self._orders.put((future, make))
        return Upload(future)

    def close(self) -> None:
        """End the thread, once it has done what was not cancelled."""
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while self._obey(self._orders.get()):
            pass

    def _obey(self, order: tuple["Future[_Sent]", Callable[[], Value]] | None) -> bool:
        """Do what was asked for. No local outlives this: it would keep a weight's memory."""
        if order is None:
            return False
        future, make = order
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(self._send(make()))
            except BaseException as error:  # noqa: BLE001  whoever asks for the value is told
                future.set_exception(error)
        return True

    def _send(self, value: Sequence[torch.Tensor]) -> _Sent:
        """Send each distinct tensor of a value once."""
        sent = {id(tensor): self._ring.send(tensor) for tensor in {id(x): x for x in value}.values()}
        return [sent[id(tensor)] for tensor in value]
