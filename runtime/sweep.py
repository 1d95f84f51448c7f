"""Sweep files: one job a line, a JSON object of option names and values that override the command line's."""

import json
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mochi_aot.runtime.defaults import ALIASES, SIZES, dashed
from mochi_aot.runtime.errors import InputFileError, OptionError
from mochi_aot.runtime.job import Job
from mochi_aot.runtime.options import FIELDS, same_names, with_options
from mochi_aot.runtime.text_lines import read_lines

MAX_LINE, MAX_JOBS = 1 << 20, 100_000  # characters; lines
_NUMBERS = tuple[float, ...]
_HINTS = get_type_hints(Job)
# What a value may be, by the option's name.
_TYPES: dict[str, tuple[Any, ...]] = {
    **{name: get_args(_HINTS[field]) or (_HINTS[field],) for name, field in FIELDS.items()},
    **dict.fromkeys(SIZES, (int, type(None))),
    "preset": (str, type(None)),
}
_TYPE_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    _NUMBERS: "a list of numbers",
    type(None): "null",
}


def read_sweep(path: Path, base: Job) -> list[tuple[int, Job]]:
    """Return (line number, job) for each line that is not blank; values a line does not give come from `base`.

    Raise InputFileError, with the line's number, for the first line that is not a JSON object of known options with
    values of their types, and if there is no job at all.
    """
    jobs: list[tuple[int, Job]] = []
    for number, line in read_lines(path):
        if len(jobs) == MAX_JOBS:
            raise InputFileError(f"{path} has more than {MAX_JOBS} jobs; write several files")
        try:
            jobs.append((number, parse_line(line, base)))
        except OptionError as error:
            raise InputFileError(f"{path}, line {number}: {error}; nothing was run") from None
    if not jobs:
        raise InputFileError(f"{path} has no jobs; write one JSON object a line")
    return jobs


def parse_line(line: str, base: Job) -> Job:
    """Return `base` with one line's values. Raise OptionError saying what is wrong with the line."""
    if len(line) > MAX_LINE:
        raise OptionError(f"a line of {len(line)} characters, expected at most {MAX_LINE}")
    try:
        values = json.loads(line, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise OptionError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        raise OptionError("not JSON that can be read: a number or a nesting is out of all bounds") from None
    if not isinstance(values, dict):
        raise OptionError("expected a JSON object of option names and values")
    for name in values:
        if ALIASES.get(dashed(name), dashed(name)) not in _TYPES:
            raise OptionError(f"{name!r} is not an option of a job; they are {', '.join(_TYPES)}")
    return with_options(base, {name: _typed(name, value) for name, value in same_names(values).items()})


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise OptionError("an option is given twice")
    return values


def _typed(name: str, value: object) -> object:
    allowed = _TYPES[name]
    if _NUMBERS in allowed and isinstance(value, list) and all(map(_is_number, value)):
        return tuple(map(float, value))
    if float in allowed and _is_number(value):
        return float(value)  # type: ignore[arg-type]
    if type(value) not in allowed:
        words = " or ".join(_TYPE_WORDS[kind] for kind in allowed)
        raise OptionError(f"{name} is {json.dumps(value)}, expected {words}")
    return value


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= sys.maxsize)
