"""The root of every error that a user can cause; each subclass names one kind of cause."""

from collections.abc import Iterator
from contextlib import contextmanager


class MochiError(Exception):
    """A problem a user can act on. Its message is one line: what was seen, what was expected, where, what to do."""


class BundleError(MochiError):
    """A bundle cannot be written, or what lies on disk is not a whole bundle of this format version."""


@contextmanager
def os_errors(action: str) -> Iterator[None]:
    """Turn an OSError (full disk, no permission, ...) into a BundleError of one line: "cannot `action`: reason"."""
    try:
        yield
    except OSError as error:
        raise BundleError(f"cannot {action}: {error.strerror or error}") from error
