"""The root of every error that a user can cause; each subclass names one kind of cause, and the exit code it has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class ExitCode(IntEnum):
    """What a command line ends with, by the kind of what happened; docs/commands.md says what each is for."""

    SUCCESS = 0
    FAULT = 1
    USAGE = 2
    INPUT = 3
    EXISTS = 4
    DEVICE = 5
    REFUSED = 6
    SYSTEM = 7
    HANGUP = 129  # 128 and the number of SIGHUP: the terminal was closed
    INTERRUPTED = 130  # 128 and the number of SIGINT, as shells report a command that Ctrl-C has stopped
    BROKEN_PIPE = 141  # 128 and the number of SIGPIPE
    TERMINATED = 143  # 128 and the number of SIGTERM


class NotAFileError(OSError):
    """What a path leads to is no file, such as a FIFO or a device, or a file past what may be read."""


# An OSError about a name that was given. Any other means that the system failed.
_ABOUT_THE_NAME = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, NotAFileError)


class MochiError(Exception):
    """A problem a user can act on. Its message is one line: what was seen, what was expected, where, what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.INPUT


class BundleError(MochiError):
    """A bundle cannot be written, or what lies on disk is not a whole bundle of this format version."""


class BundleExistsError(BundleError):
    """The place where a bundle is to be written is taken."""

    exit_code = ExitCode.EXISTS


@contextmanager
def os_errors(action: str) -> Iterator[None]:
    """Turn an OSError (full disk, no permission, ...) into a BundleError of one line: "cannot `action`: reason"."""
    try:
        yield
    except OSError as error:
        raise BundleError(f"cannot {action}: {error.strerror or error}") from error


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Have an OSError that names no file, as one of a file that is open already, name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.strerror is not None:
            error.filename = str(path)
        raise


def one_line(error: BaseException) -> str:
    """Return what an error says; an OSError as "path: reason", without its number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def library_errors(refusal: Callable[[str], MochiError]) -> Iterator[None]:
    """Turn whatever a library raises into `refusal` of one line, panics of Rust included, which are no Exception."""
    try:
        yield
    except MochiError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime":
            raise refusal(str(error).partition("\n")[0][:200] or type(error).__name__) from error
        raise


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code of an error that ends a command.

    An OSError, and a MochiError that was made of one, says that the system failed, unless the OSError is about a name
    that is not there or of the wrong kind: then a MochiError has its own code, and the OSError is about bad input. A
    package that is not installed makes a command unusable here.
    """
    if isinstance(error, ModuleNotFoundError):
        own = (error.name or "mochi_aot").startswith("mochi_aot")
        return ExitCode.FAULT if own else ExitCode.DEVICE
    if isinstance(error, MemoryError):
        return ExitCode.SYSTEM
    if isinstance(error, OSError):
        return ExitCode.INPUT if isinstance(error, _ABOUT_THE_NAME) else ExitCode.SYSTEM
    if not isinstance(error, MochiError):
        return ExitCode.FAULT
    origin = error.__cause__ or error.__context__  # `from None` leaves the latter
    if isinstance(origin, ModuleNotFoundError | MemoryError):
        return exit_code(origin)
    if isinstance(origin, OSError) and not isinstance(origin, _ABOUT_THE_NAME):
        return ExitCode.SYSTEM
    return error.exit_code
