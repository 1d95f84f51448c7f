"""Golden files: a program and what a pass makes of it, as text in one file.

A file begins with comments that say what it shows. Options follow, as `#! name=value ...`, then the input, then each
expected program under a line `---- <name>`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.ir.verify import verify
from tests.compiler.numbers import assert_same, inputs, parameter

SEPARATOR = "---- "


@dataclass(frozen=True)
class Golden:
    """One file's contents; `expected` is by name."""

    options: dict[str, str]
    source: Program
    expected: dict[str, str]

    def check(self, made: dict[str, Program]) -> None:
        """The programs made are those expected, name by name and line by line."""
        assert {name: to_text(program) for name, program in made.items()} == self.expected


def read(path: Path) -> Golden:
    """Raises ValueError for a file without an expectation, IRError for an input that does not parse."""
    lines = path.read_text().splitlines(keepends=True)
    options = [line.removeprefix("#!").split() for line in lines if line.startswith("#!")]
    source, *sections = "".join(line for line in lines if not line.startswith("#")).split(f"\n{SEPARATOR}")
    if not sections:
        raise ValueError(f"{path} expects nothing")
    expected = dict(section.split("\n", 1) for section in sections)
    return Golden(
        options=dict(option.split("=") for words in options for option in words),
        source=parse(source),
        expected={name: text.rstrip("\n") + "\n" for name, text in expected.items()},
    )


def check_pass(golden: Golden, name: str, change: Callable[[Program], Program]) -> None:
    """`change` makes of the source what is expected under `name`: a valid program with the same results, to the bit."""
    verify(golden.source)
    after = change(golden.source)
    verify(after)
    golden.check({name: after})
    arrays = inputs(golden.source)
    assert_same(run(after, arrays, parameter), run(golden.source, arrays, parameter), tolerance=0)


def cases(folder: Path) -> pytest.MarkDecorator:
    """Parametrizes a test by `golden`: each file of a folder."""
    paths = sorted(folder.glob("*.ir"))
    return pytest.mark.parametrize("golden", [pytest.param(read(path), id=path.stem) for path in paths])
