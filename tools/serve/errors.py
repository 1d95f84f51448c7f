"""What a server refuses, and what keeps it from starting."""

from mochi_aot.artifacts.errors import ExitCode, MochiError


class RequestError(MochiError):
    """A request that is refused: the HTTP status, the field that it is about, and when to come again."""

    exit_code = ExitCode.USAGE

    def __init__(self, status: int, message: str, field: str | None = None, retry_after: int | None = None) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message)
        self.status, self.field, self.retry_after = status, field, retry_after


class StoreError(RequestError):
    """The jobs cannot be read or written: a full disk, or one that fails."""

    exit_code = ExitCode.SYSTEM

    def __init__(self, reason: str) -> None:
        super().__init__(503, f"the queue's file, jobs.sqlite3, cannot be used: {reason}", retry_after=30)


class StateFolderError(MochiError):
    """The folder of the jobs cannot be used: another server has it, or it was written by another version."""

    exit_code = ExitCode.SYSTEM


class KeysError(MochiError):
    """The file of API keys says nothing that a server could follow."""
