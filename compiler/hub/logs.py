"""What huggingface_hub logs, said by this package's logger: in its form, where its messages go, and in one line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_THEIRS, _OURS = logging.getLogger("huggingface_hub"), logging.getLogger("mochi_aot")


class _Handed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _OURS.log(record.levelno, "%s", " ".join(record.getMessage().split()))


@contextmanager
def handed_on() -> Iterator[None]:
    """Have messages handed on instead of printed, in all threads."""
    kept, _THEIRS.handlers = _THEIRS.handlers, [_Handed()]
    try:
        yield
    finally:
        _THEIRS.handlers = kept
