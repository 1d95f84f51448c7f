"""Errors of a compile as a whole that a user can act on."""

from mochi_aot.artifacts.errors import ExitCode, MochiError


class CompileOptionError(MochiError):
    """Options of a compile that contradict each other, or one that says nothing."""

    exit_code = ExitCode.USAGE


class IRFolderError(MochiError):
    """The place where programs' text is to be written is taken."""

    exit_code = ExitCode.EXISTS


class CompileProcessError(MochiError):
    """The process that compiled has ended without a result."""

    exit_code = ExitCode.SYSTEM
