"""Ranks 1 and up: do as rank 0 says until it says no more."""

import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mochi_aot.artifacts.errors import ExitCode, MochiError, exit_code
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.backend import Executable, Value
from mochi_aot.runtime.interrupt import handling
from mochi_aot.runtime.opening import open_bundle
from mochi_aot.runtime.torch.distributed.axis import LostError
from mochi_aot.runtime.torch.distributed.links import Link, Message, answer
from mochi_aot.runtime.torch.distributed.rank import EndedError, RankBackend
from mochi_aot.runtime.torch.distributed.rendezvous import SECONDS, meet
from mochi_aot.runtime.torch.distributed.specs import spec_of
from mochi_aot.runtime.weight_reader import WeightReader
from mochi_aot.runtime.world import World

_GRACE_SECONDS = 10.0  # in which this process ends by itself once the leader has; a GPU may wait for it forever


def follow(path: Path, world: World, device: str, check: bool, delta: Path | None) -> int:
    """Be rank `world.rank` of a distributed run of the bundle at `path`, perhaps with a delta, until rank 0 has ended.

    Whatever fails here is told to rank 0, which says it; return the exit code. A signal is handed on to rank 0, which
    decides. Raise BackendError if rank 0 cannot be reached.
    """
    store = meet(world)
    link, ended = answer(store, world.rank, SECONDS), threading.Event()
    with _handing_on(link):
        try:
            bundle = open_bundle(path, delta).for_device(world.rank)
            link.send({"ready": {"bundle": bundle.id, "host": socket.gethostname()}})
            orders = _orders(link, ended)
            if next(orders, None) is not None:
                _Follower(RankBackend(world, store, bundle.manifest.mesh, device), bundle, check).obey(orders)
        except Exception as error:  # noqa: BLE001  of any kind: this process is not the one that people look at
            link.send(_told(error))
            return int(exit_code(error))
        finally:
            ended.set()
            link.close()
    return 0


def _told(error: Exception) -> Message:
    """Return the message about a failure; `follows` says that it comes of another rank's."""
    follows = isinstance(error, LostError) or isinstance(error.__cause__, LostError)
    text = str(error) if isinstance(error, MochiError) else f"{type(error).__name__}: {error}"
    return {"error": text.partition("\n")[0], "code": int(exit_code(error)), "follows": follows}


class _Follower:
    """What rank 0's Backend does there is done here, in the same order. Values have the numbers that it gives them."""

    def __init__(self, backend: RankBackend, bundle: Bundle, check: bool) -> None:
        self._backend, self._bundle = backend, bundle
        self._reader = WeightReader(bundle, check=check)
        self._programs: dict[int, Executable] = {}
        self._values: dict[int, Value] = {}

    def obey(self, orders: Iterator[Message]) -> None:
        """Follow orders until there are no more."""
        known: Mapping[str, Callable[..., None]] = {
            "plan": self._plan,
            "load_weights": self._load_weights,
            "free_weights": self._free_weights,
            "load_program": self._load_program,
            "share": self._share,
            "collect": self._collect,
            "kinds": self._kinds,
            "run": self._run,
        }
        try:
            for order in orders:
                for number in order.pop("drop"):
                    self._values.pop(number, None)
                known[order.pop("do")](**order)
        finally:
            self._reader.close()
            self._backend.close()

    def _plan(self, names: list[str]) -> None:
        self._reader.plan(names)

    def _load_weights(self, names: list[str]) -> None:
        self._reader.plan(names, at_once=True)
        self._backend.load_weights(self._bundle, names, self._reader.wait)

    def _free_weights(self, names: list[str]) -> None:
        self._backend.free_weights(names)
        self._reader.release(names)

    def _load_program(self, role: str, geometry: int, number: int) -> None:
        program = self._bundle.program(role, self._bundle.manifest.geometries[geometry])
        self._programs[number] = self._backend.load_program(program)

    def _share(self, spec: list[Any], result: int) -> None:
        self._values[result] = self._backend.share(None, spec_of(spec))

    def _collect(self, value: int, spec: list[Any]) -> None:
        self._backend.collect(self._values[value], spec_of(spec))

    def _kinds(self, value: int) -> None:
        self._backend.kinds([self._values[value]])

    def _run(self, program: int, inputs: dict[str, int], results: dict[str, int], watched: bool) -> None:
        executable, values = self._programs[program], {name: self._values[n] for name, n in inputs.items()}
        try:
            made = self._backend.run_watched(executable, values) if watched else executable.run(values)
        except EndedError:
            return
        self._values.update({results[name]: value for name, value in made.items()})


def _orders(link: Link, ended: threading.Event) -> Iterator[Message]:
    """Yield what the leader says, until it says "close" or has ended.

    A thread listens, also while this one computes or waits for another process: should the leader be gone, and this
    process not say soon that it has `ended` what it does, the thread ends it.
    """
    said: queue.SimpleQueue[Message | None] = queue.SimpleQueue()

    def listen() -> None:
        while (message := link.receive()) is not None and message["do"] != "close":
            said.put(message)
        said.put(None)
        if not ended.wait(_GRACE_SECONDS):
            os._exit(int(ExitCode.DEVICE))

    threading.Thread(target=listen, name="orders", daemon=True).start()
    while (message := said.get()) is not None:
        yield message


@contextmanager
def _handing_on(link: Link) -> Iterator[None]:
    """Tell the leader of the signals that come meanwhile, but for those that are ignored."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=link.send, args=({"signal": number},), daemon=True).start()

    with handling(hand_on):
        yield
