"""Sweep files: one job a line, a JSON object of option names and values that override the command line's."""

import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mochi_aot.runtime.errors import InputFileError, OptionError
from mochi_aot.runtime.job import Job, option_name

_FIELDS = {option_name(field.name): field.name for field in fields(Job)}
_TYPES = get_type_hints(Job)
_TYPE_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def read_sweep(path: Path, base: Job) -> list[tuple[int, Job]]:
    """Returns (line number, job) for each line that is not blank; values a line does not give come from `base`.

    Raises InputFileError, with the line's number, for the first line that is not a JSON object of known options with
    values of their types, and if there is no job at all.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 text (byte {error.start})") from None
    jobs = []
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would also split at U+2028 within a prompt
        if not line.strip():
            continue
        try:
            jobs.append((number, parse_line(line, base)))
        except OptionError as error:
            raise InputFileError(f"{path}, line {number}: {error}; nothing was run") from None
    if not jobs:
        raise InputFileError(f"{path} has no jobs; write one JSON object a line")
    return jobs


def parse_line(line: str, base: Job) -> Job:
    """Returns `base` with one line's values. Raises OptionError saying what is wrong with the line."""
    try:
        values = json.loads(line, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise OptionError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        raise OptionError("not JSON that can be read: a number or a nesting is out of all bounds") from None
    if not isinstance(values, dict):
        raise OptionError("expected a JSON object of option names and values")
    changes: dict[str, Any] = {_field(name): _typed(name, value) for name, value in values.items()}
    return replace(base, **changes)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise OptionError("an option is given twice")
    return values


def _field(name: str) -> str:
    if name not in _FIELDS:
        raise OptionError(f"{name!r} is not an option of a job; they are {', '.join(_FIELDS)}")
    return _FIELDS[name]


def _typed(name: str, value: object) -> object:
    allowed = get_args(_TYPES[_FIELDS[name]]) or (_TYPES[_FIELDS[name]],)
    if float in allowed and type(value) is int and abs(value) <= sys.maxsize:
        return float(value)
    if type(value) not in allowed:
        words = " or ".join(_TYPE_WORDS[kind] for kind in allowed)
        raise OptionError(f"{name} is {json.dumps(value)}, expected {words}")
    return value
