"""`mochi-run --launch`: one process a device of the bundle's mesh, on this host, as torchrun would start them.

They are forks of this process once it has imported torch, which takes seconds and a core each otherwise.
"""

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FrameType

import click

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.interrupt import SIGNALS
from mochi_aot.runtime.world import World
from mochi_aot.tools.commands.console import LOGGER

_HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LEADER_SECONDS = 25.0  # for rank 0 to end by itself once another rank has failed
_OTHERS_SECONDS = 15.0  # for the others to end by themselves once rank 0 has
_FAILED_SECONDS = 3.0  # the same, where rank 0 has failed: it may not have met them, nor tell them


def launch_ranks(path: Path) -> World | None:
    """Return, in as many processes as the bundle's mesh has devices, which of them each is; None for a mesh of one.

    This process itself does not return: it waits for them and exits as rank 0 does. Raise BundleError; UsageError for a
    bundle of which one process drives all devices, or if torchrun has started this process.
    """
    if World.from_environment() is not None:
        raise click.UsageError("--launch starts the processes that torchrun has started already; leave out one of them")
    manifest = Bundle.open(path).manifest
    if manifest.target != "torch":
        raise click.UsageError(f"--launch is for the target torch; one process drives all chips for {manifest.target}")
    size = manifest.mesh[0] * manifest.mesh[1]
    if size == 1:
        return None
    import_module("mochi_aot.runtime.torch.distributed.leader")
    environment = _environment(size)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent, pids = os.getpid(), list[int]()
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            _end_with(parent)
            os.environ.update(environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            return World.from_environment()
        pids.append(pid)
    sys.exit(_Ranks(pids).wait())


def _environment(size: int) -> dict[str, str]:
    """Return the variables that torchrun sets; and what each process has of this host's cores, if nobody has said."""
    with socket.create_server((_HOST, 0)) as server:
        port = server.getsockname()[1]
    set_already = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
    threads = max(1, len(os.sched_getaffinity(0)) // size)
    return {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads),
    } | set_already


def _end_with(parent: int) -> None:
    """Have this process be asked to end once its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


class _Ranks:
    """The processes of a run, by rank. Signals that come here go to rank 0, which decides."""

    def __init__(self, pids: list[int]) -> None:
        self._ranks = {pid: rank for rank, pid in enumerate(pids)}  # that have not ended
        self._leader = pids[0]
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hand_on)

    def wait(self) -> int:
        """Return rank 0's exit code once all have ended: those that do not end by themselves are killed."""
        code = self._wait_while(lambda: self._leader in self._ranks, None)
        self._wait_while(lambda: bool(self._ranks), _OTHERS_SECONDS if code == 0 else _FAILED_SECONDS)
        return int(ExitCode.SYSTEM) if code is None else code

    def _wait_while(self, unfinished: Callable[[], bool], seconds: float | None) -> int | None:
        """Return rank 0's exit code if it has ended. Without `seconds` time begins with the first rank that fails."""
        code, deadline = None, None if seconds is None else time.monotonic() + seconds
        while unfinished():
            pid, status = os.waitpid(-1, os.WNOHANG if deadline else 0)
            if pid in self._ranks:
                ended = self._ended(pid, os.waitstatus_to_exitcode(status))
                if pid == self._leader and ended >= 0:
                    code = ended
                elif ended != 0 and deadline is None:
                    deadline = time.monotonic() + _LEADER_SECONDS
            elif deadline and time.monotonic() > deadline:
                self._kill()
                deadline = time.monotonic() + _OTHERS_SECONDS
            else:
                time.sleep(0.02)
        return code

    def _ended(self, pid: int, ended: int) -> int:
        """Note that a rank has ended, and return how; say so of a signal, unless rank 0 had ended before."""
        leading = self._leader in self._ranks
        rank = self._ranks.pop(pid)
        if ended < 0 and leading:
            LOGGER.error("%s", f"rank {rank} was ended by {signal.Signals(-ended).name}")
        return ended

    def _kill(self) -> None:
        for pid in self._ranks:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        if self._leader in self._ranks:
            with suppress(ProcessLookupError):
                os.kill(self._leader, number)
