"""Reads the text form that `text.to_text` writes."""

import json
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np

from mochi_aot.artifacts.dtypes import PROGRAM_DTYPES
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.program import (
    Attr,
    Attrs,
    Checkpoint,
    Computed,
    Concat,
    Constant,
    Input,
    Op,
    Output,
    Param,
    Program,
    Quantised,
    Recipe,
    Value,
)
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Placement, Shard, TensorType

NAME = r"[A-Za-z0-9_.\-]+"
_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_NUMBER = r"[0-9]+"
_DTYPES = {dtype.short: name for name, dtype in PROGRAM_DTYPES.items()}
_JSON = json.JSONDecoder()
_RECIPES = "checkpoint, constant, computed, quantised or concat"


def parse(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Program:
    """Return the program that `text` describes; `constants` holds the data of its constants, by keys that are
    believed (see `text.constants_of`).

    Raise IRError with the line's number, what was expected there, and the line. Blank lines are skipped.
    The result is not verified.
    """
    lines = [_Line(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise IRError("line 1: expected 'program', found the end of the text")
    parser = _Parser(_header(lines[0]), constants or {})
    for index, line in enumerate(lines[1:], 1):
        if line.take("}"):
            line.end()
            if lines[index + 1 :]:
                lines[index + 1].fail("the end of the text")
            return parser.program
        parser.statement(line)
    raise IRError(f"line {lines[-1].number + 1}: expected '}}', found the end of the text")


class _Line:
    """A cursor over one line."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self._text = text
        self._at = 0

    def fail(self, expected: str) -> NoReturn:
        """Raise the error for what stands at the cursor."""
        self._skip()
        found = repr(self._text[self._at :]) if self._at < len(self._text) else "the end of the line"
        self.reject(f"expected {expected}, found {found}")

    def reject(self, message: str) -> NoReturn:
        """Raise an error about what was just read."""
        raise IRError(f"line {self.number}: {message}\n  {self._text.strip()}")

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def take(self, literal: str) -> bool:
        """Move past `literal` if it is next; return whether it is."""
        self._skip()
        found = self._text.startswith(literal, self._at)
        self._at += len(literal) * found
        return found

    def need(self, literal: str) -> None:
        if not self.take(literal):
            self.fail(repr(literal))

    def match(self, pattern: str, expected: str) -> str:
        self._skip()
        found = re.compile(pattern).match(self._text, self._at)
        if found is None:
            self.fail(expected)
        self._at = found.end()
        return found.group()

    def integer(self, expected: str) -> int:
        return int(self.match(_NUMBER, expected))

    def json(self, expected: str) -> Attr:
        self._skip()
        try:
            value, self._at = _JSON.raw_decode(self._text, self._at)
        except json.JSONDecodeError:
            self.fail(expected)
        return value

    def string(self, expected: str) -> str:
        start = self._at
        value = self.json(expected)
        if not isinstance(value, str):
            self._at = start
            self.fail(expected)
        return value

    def sequence(self, item: Callable[[], None], close: str) -> None:
        """Read items separated by commas up to `close`, possibly none."""
        if self.take(close):
            return
        item()
        while not self.take(close):
            if not self.take(","):
                self.fail(f"',' or {close!r}")
            item()

    def end(self) -> None:
        self._skip()
        if self._at < len(self._text):
            self.fail("the end of the line")


def _header(line: _Line) -> Program:
    line.need("program")
    line.need("@")
    program = Program(line.match(NAME, "the program's name"))
    if line.take("mesh="):
        rows = line.integer("the mesh's rows")
        line.need("x")
        program.mesh = (rows, line.integer("the mesh's columns"))
    line.need("{")
    line.end()
    return program


def _type(line: _Line) -> TensorType:
    short = line.match(_WORD, "a type")
    if short not in _DTYPES:
        line.reject(f"expected one of the dtypes {', '.join(_DTYPES)}, found {short!r}")
    shape: list[int] = []
    placements: list[Placement] = []
    line.need("[")
    line.sequence(lambda: shape.append(line.integer("a size")), "]")
    if line.take("{"):
        line.sequence(lambda: placements.append(_placement(line)), "}")
    return TensorType(tuple(shape), _DTYPES[short], tuple(placements))


def _placement(line: _Line) -> Placement:
    kind = line.match("[RPS]", "a placement: R, P or S(dim:chunk)")
    if kind != "S":
        return REPLICATE if kind == "R" else PARTIAL
    line.need("(")
    dim = line.integer("a dimension")
    line.need(":")
    chunk = line.integer("a chunk")
    line.need(")")
    return Shard(dim, chunk)


def _attrs(line: _Line) -> Attrs:
    attrs: Attrs = {}

    def item() -> None:
        key = line.match(_WORD, "an attribute's name")
        if key in attrs:
            line.reject(f"expected one value for attribute {key!r}, found a second")
        line.need("=")
        attrs[key] = line.json("a JSON value")

    line.sequence(item, "}")
    return attrs


class _Parser:
    """Statements between the braces; every value must be defined on an earlier line."""

    def __init__(self, program: Program, constants: Mapping[str, np.ndarray]) -> None:
        self.program = program
        self._constants = constants
        self._values: dict[str, Value] = {}

    def statement(self, line: _Line) -> None:
        if line.take("input "):
            self._input(line)
        elif line.take("param "):
            self._param(line)
        elif line.take("return "):
            name = line.string("the output's name in quotes")
            self.program.outputs.append(Output(name, self._use(line)))
        else:
            self._op(line)
        line.end()

    def _input(self, line: _Line) -> None:
        name = self._new_name(line)
        line.need(":")
        type = _type(line)
        line.need("rate=")
        rate = line.match(_WORD, "a rate")
        self.program.inputs.append(Input(self._define(name, type), rate))

    def _param(self, line: _Line) -> None:
        name = self._new_name(line)
        line.need(":")
        type = _type(line)
        line.need("=")
        recipe = self._recipe(line)
        self.program.params.append(Param(self._define(name, type), recipe))

    def _op(self, line: _Line) -> None:
        names = [self._new_name(line)]
        while line.take(","):
            names.append(self._new_name(line))
        line.need("=")
        opcode = line.match(_WORD, "an opcode")
        operands: list[Value] = []
        line.need("(")
        line.sequence(lambda: operands.append(self._use(line)), ")")
        attrs = _attrs(line) if line.take("{") else {}
        line.need(":")
        types = [_type(line)]
        while line.take(","):
            types.append(_type(line))
        if len(types) != len(names):
            line.reject(f"expected {len(names)} types, one per result, found {len(types)}")
        loc = line.string("a location in quotes") if line.take("loc") else ""
        results = [self._define(name, type) for name, type in zip(names, types, strict=True)]
        self.program.ops.append(Op(opcode, operands, results, attrs, loc))

    def _recipe(self, line: _Line) -> Recipe:
        kind = line.match(_WORD, f"a recipe: {_RECIPES}")
        line.need("(")
        recipe: Recipe
        if kind == "checkpoint":
            recipe = Checkpoint(line.string("a checkpoint's name in quotes"))
        elif kind == "constant":
            recipe = self._constant(line)
        elif kind == "computed":
            program = line.string("a program's name in quotes")
            line.need(",")
            recipe = Computed(program, line.string("an output's name in quotes"))
        elif kind == "quantised":
            matrix = line.string("a checkpoint's name in quotes")
            line.need(",")
            recipe = Quantised(matrix, line.string("values or scales in quotes"))
        elif kind == "concat":
            recipe = self._concat(line)
        else:
            line.reject(f"expected {_RECIPES}, found {kind!r}")
        line.need(")")
        return recipe

    def _constant(self, line: _Line) -> Constant:
        key = line.string("a constant's key in quotes")
        if key not in self._constants:
            line.reject(f"expected data for constant {key!r} beside the text, found none")
        return Constant.called(key, self._constants[key])

    def _concat(self, line: _Line) -> Concat:
        parts: list[tuple[Recipe, TensorType]] = []

        def item() -> None:
            recipe = self._recipe(line)
            line.need(":")
            parts.append((recipe, _type(line)))

        dim = line.integer("a dimension")
        line.need(",")
        line.need("[")
        line.sequence(item, "]")
        return Concat(tuple(parts), dim)

    def _new_name(self, line: _Line) -> str:
        line.need("%")
        name = line.match(NAME, "a value's name")
        if name in self._values:
            line.reject(f"expected a new name, found %{name}, which is defined above")
        return name

    def _use(self, line: _Line) -> Value:
        line.need("%")
        name = line.match(NAME, "a value's name")
        if name not in self._values:
            line.reject(f"expected a value defined above, found %{name}")
        return self._values[name]

    def _define(self, name: str, type: TensorType) -> Value:
        value = self._values[name] = Value(name, type)
        return value
