"""Compiling in a child process: ttnn reads its environment once, and the caller's process stays free for chips.

The parent pickles a task to the child's stdin. The child pickles messages to its stdout: what is logged, what progress
is told, and the outcome. Whatever else is printed there goes to stderr.
"""

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import IO, Any

from mochi_aot.compiler.errors import CompileProcessError
from mochi_aot.compiler.job import Progress, Request, Summary
from mochi_aot.runtime.interrupt import Stop

LOGGER = logging.getLogger("mochi_aot")
# The child finds modules where its parent does, whatever has changed sys.path there.
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); import mochi_aot.compiler.child as c; c.main()"
)
_LOOK_SECONDS = 0.5  # between two looks at whether the parent is there
_CLEANUP_SECONDS = 30.0  # that a child without a parent has


@dataclass(frozen=True)
class _Task:
    """What a child is told: what to do, whose child it is, and which messages of the logger are wanted."""

    request: Request
    parent: int
    log_level: int


@dataclass(frozen=True)
class _Told:
    """A call of one of the methods of Progress."""

    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _Failed:
    """An error, and the one that it was raised from, which pickle would leave out."""

    error: BaseException
    cause: BaseException | None


type _Message = logging.LogRecord | _Told | _Failed | Summary


def compile_in_child(request: Request, progress: Progress) -> Summary:
    """Fulfil a request in a child process; `progress` is told, and messages are logged, in the thread that calls.

    What is raised here meanwhile, such as KeyboardInterrupt, stops the child, which cleans up first; raised again, it
    kills the child. A parent that is killed is missed by the child, which then stops too. Raises what `compile` raises,
    with the child's traceback as a note, and CompileProcessError for a child that has ended without an outcome.
    """
    task = _Task(request, os.getpid(), LOGGER.getEffectiveLevel())
    # A session of its own: Ctrl-C in a terminal would reach the child too, beside what the parent makes of it.
    words, pipe = [sys.executable, "-c", _START], subprocess.PIPE
    try:
        child = subprocess.Popen(words, stdin=pipe, stdout=pipe, start_new_session=True)
    except OSError as error:
        raise CompileProcessError(f"no process can be started ({sys.executable}): {error.strerror}") from error
    with child:
        try:
            _tell(child, task)
            outcome = _listen(child, partial(_hand_on, progress))
        except BaseException:
            try:
                child.terminate()
                _listen(child, partial(_hand_on_quietly, progress))
            finally:
                child.kill()
            raise
    if outcome is None:
        raise CompileProcessError(_ended(child.returncode))
    if isinstance(outcome, _Failed):
        raise outcome.error from outcome.cause
    return outcome


def _tell(child: subprocess.Popen[bytes], task: _Task) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, which `_listen` finds too
        pickle.dump(sys.path, child.stdin)
        pickle.dump(task, child.stdin)
        child.stdin.close()


def _listen(child: subprocess.Popen[bytes], hand_on: Callable[[_Message], None]) -> Summary | _Failed | None:
    """Hand on what a child says until it has ended, and return its outcome, if it has told any."""
    assert child.stdout is not None
    outcome: Summary | _Failed | None = None
    for message in _messages(child.stdout):
        if isinstance(message, Summary | _Failed):
            outcome = message
        else:
            hand_on(message)
    child.wait()
    return outcome


def _messages(stream: IO[bytes]) -> Iterator[_Message]:
    while True:
        try:
            message = pickle.load(stream)  # noqa: S301  from a child of this process
        except Exception:  # noqa: BLE001  the end, or a message that was cut short when either process was stopped
            break
        yield message
    while stream.read(1 << 16):  # so that the child never waits for a reader
        pass


def _hand_on(progress: Progress, message: _Message) -> None:
    if isinstance(message, _Told):
        getattr(progress, message.method)(*message.arguments)
    elif isinstance(message, logging.LogRecord):
        logging.getLogger(message.name).handle(message)


def _hand_on_quietly(progress: Progress, message: _Message) -> None:
    """Hand on what a child that is stopped says, perhaps to the very one that has stopped it."""
    with suppress(Exception):
        _hand_on(progress, message)


def _ended(code: int) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended with exit code {code}"
    reason = ", perhaps since memory ran out" if code == -signal.SIGKILL else ""
    return f"the process that compiled {how}{reason}; compile again, with resume to use the weights that it finished"


# ---- in the child


def main() -> None:
    """Do what the parent tells."""
    out = _MessagePipe(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    task: _Task = pickle.load(sys.stdin.buffer)  # noqa: S301  from the parent
    stop = Stop()
    signal.signal(signal.SIGTERM, partial(_stop_once, stop))
    threading.Thread(target=_end_with, args=(task.parent,), daemon=True).start()
    LOGGER.setLevel(task.log_level)
    LOGGER.addHandler(_LogHandler(out))
    LOGGER.propagate = False
    try:
        with stop:
            from mochi_aot.compiler.request import compile_request

            out.send(compile_request(task.request, _ToldProgress(out, stop)))
    except KeyboardInterrupt:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  whatever it is, the parent raises it
        error.add_note(f"In the process that compiled:\n{traceback.format_exc()}")
        cause = error.__cause__ or error.__context__
        with suppress(BrokenPipeError):  # nobody is left to be told
            out.send(_Failed(_portable(error), cause and _portable(cause)))


class _MessagePipe:
    """Messages to the parent, from any thread."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def send(self, message: _Message) -> None:
        """Send a message. Raise BrokenPipeError where the parent has gone."""
        pickled = pickle.dumps(message)
        with self._lock:
            self._stream.write(pickled)
            self._stream.flush()


class _ToldProgress(Progress):
    """Has the parent's progress told. Where there is no parent any more that ends the compile, as an error."""

    def __init__(self, out: _MessagePipe, stop: Stop) -> None:
        self._out, self._stop = out, stop

    def phase(self, text: str) -> None:
        self._tell("phase", text)

    def weights(self, done: int, total: int) -> None:
        self._tell("weights", done, total)

    def fetched(self, done: int, total: int) -> None:
        self._tell("fetched", done, total)

    def note(self, text: str) -> None:
        self._tell("note", text)

    def _tell(self, method: str, *arguments: Any) -> None:
        try:
            self._out.send(_Told(method, arguments))
        except BrokenPipeError:
            self._stop.settle()  # the signal of `_end_with` would come in the middle of the cleanup
            raise


class _LogHandler(logging.Handler):
    """Has the parent log."""

    def __init__(self, out: _MessagePipe) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        plain = {**record.__dict__, "msg": record.getMessage(), "args": None, "exc_info": None}
        with suppress(BrokenPipeError):
            self._out.send(logging.makeLogRecord(plain))


def _stop_once(stop: Stop, number: int, frame: FrameType | None) -> None:
    """Stop once: what cleans up is not stopped again."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stop.ask(number, frame)


def _end_with(parent: int) -> None:
    """Stop this process when its parent has ended, however that was."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_CLEANUP_SECONDS)
    os._exit(1)


def _portable(error: BaseException) -> BaseException:
    """Return the error, or where pickle cannot take it to another process, one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  what was pickled here
    except Exception:  # noqa: BLE001  constructors of exceptions may do anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
