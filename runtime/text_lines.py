"""Reads texts of one thing a line: jobs of a sweep, prompts."""

from pathlib import Path

from mochi_aot.artifacts.regular_file import read_regular
from mochi_aot.runtime.errors import InputFileError


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a UTF-8 text that are not blank, each with its number. Raise InputFileError."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 text (byte {error.start})") from None
    lines = enumerate(text.split("\n"), start=1)  # splitlines would also split at U+2028 within a prompt
    return [(number, line) for number, line in lines if line.strip()]
