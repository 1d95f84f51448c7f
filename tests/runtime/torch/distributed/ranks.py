"""Processes that are ranks of a distributed run, several runs one after the other: starting one takes seconds."""

import faulthandler
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

from mochi_aot.runtime.world import World
from tests.forked import FORKED

_HANGS = 150.0  # seconds, after which a process tells on stderr where it is


class Ranks:
    """A context manager; processes start when they are first needed."""

    def __init__(self) -> None:
        self._processes: list[Any] = []
        self._pipes: list[Any] = []

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(20)
            assert process.exitcode == 0, "a rank did not end by itself"

    def run(self, size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What function(world, *arguments) returns in each of `size` processes. It is a module's, and may not fail."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        for _ in range(size - len(self._pipes)):
            here, there = FORKED.Pipe()
            self._processes.append(FORKED.Process(target=_serve, args=(there,), daemon=True))
            self._processes[-1].start()
            self._pipes.append(here)
        for rank, pipe in enumerate(self._pipes[:size]):
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
            environment = {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
            pipe.send((environment, function, arguments))
        results, problems = [], []
        for rank, pipe in enumerate(self._pipes[:size]):
            assert pipe.poll(2 * _HANGS), f"rank {rank} hangs; {problems}"
            result, problem = pipe.recv()
            results.append(result)
            problems += [f"rank {rank}: {problem}"] if problem else []
        assert not problems, "\n".join(problems)
        return results


def _serve(pipe: Any) -> None:
    while (task := pipe.recv()) is not None:
        environment, function, arguments = task
        os.environ.update(environment)
        faulthandler.dump_traceback_later(_HANGS)
        try:
            pipe.send((function(World.from_environment(), *arguments), None))
        except BaseException:  # noqa: BLE001  the test that has asked is to fail
            pipe.send((None, traceback.format_exc()))
        faulthandler.cancel_dump_traceback_later()
