"""The kinds of problem that a user of the runtime can cause or meet."""

from mochi_aot.artifacts.errors import ExitCode, MochiError


class OptionError(MochiError):
    """An option, or a combination of options, that cannot be run."""

    exit_code = ExitCode.USAGE


class InputFileError(MochiError):
    """A file given as input that cannot be read, or does not hold what is needed."""


class OutputError(MochiError):
    """A file that cannot be written where it was asked for."""

    exit_code = ExitCode.USAGE


class OutputFolderError(OutputError):
    """A folder that takes no files: no permission, read-only, full."""

    exit_code = ExitCode.SYSTEM


class OutputExistsError(OutputError):
    """A file that exists already where one is to be written."""

    exit_code = ExitCode.EXISTS


class VideoError(MochiError):
    """ffmpeg could not make the video."""

    exit_code = ExitCode.SYSTEM


class BackendError(MochiError):
    """A backend cannot be used here, or failed to run a program."""

    exit_code = ExitCode.DEVICE


class CacheError(BackendError):
    """What belongs into the cache folder cannot be written."""

    exit_code = ExitCode.SYSTEM


class RefusalError(BackendError):
    """ttnn, or the runtime, refuses an op of a program."""

    exit_code = ExitCode.REFUSED


class DeviceMemoryError(BackendError):
    """A device has no room for what is to be computed."""

    exit_code = ExitCode.SYSTEM


class NumbersError(MochiError):
    """What a program made is not finite: infinities, or what is not a number at all."""


class BusyError(MochiError):
    """A loaded bundle is used by one thread, and another one, or a callback of the same one, asks it for more."""

    exit_code = ExitCode.USAGE


class ClosedError(MochiError):
    """A loaded bundle was closed before, and is asked for something."""

    exit_code = ExitCode.USAGE


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; raised between two steps, never inside one."""


class SignatureError(MochiError):
    """A bundle that is not the one that was expected, or that nobody who is trusted has signed."""


class ExtraMissingError(MochiError):
    """A package that mochi-aot does without, but not what was asked for. `install` says how to get it."""

    exit_code = ExitCode.DEVICE

    def __init__(self, package: str, why: str, install: str) -> None:
        super().__init__(f"{package} is not installed; {why}: {install}")
