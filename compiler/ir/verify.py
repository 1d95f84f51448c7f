"""Checks that a program is well formed. Runs after every pass."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from mochi_aot.artifacts.roles import RATES
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.ops import COLLECTIVES, infer
from mochi_aot.compiler.ir.parser import NAME
from mochi_aot.compiler.ir.program import Attrs, Input, Op, Output, Param, Program, Value
from mochi_aot.compiler.ir.text import input_text, op_text, output_text, param_text
from mochi_aot.compiler.ir.verify_collectives import MASKED_DIMS, check_collective, check_valid_ranges
from mochi_aot.compiler.ir.verify_types import check_argument, check_recipe, check_type

_NAME = re.compile(NAME)


def verify(program: Program) -> None:
    """Raise IRError naming the program, saying what is wrong and printing the line at fault.

    Checks: names, definitions before uses, rates, recipes, every op against the table on local shapes, placements
    against the mesh, collectives against their operands' and results' placements, outputs. It does not check that
    an op may read a partial or sharded operand: that is for the partitioner's rules.
    """
    defined: dict[str, Value] = {}
    with _located(program, lambda: f"program @{program.name} mesh={program.mesh}"):
        _check_header(program)
    for item in program.inputs:
        with _located(program, partial(input_text, item)):
            _check_input(item, program.mesh)
            _define([item.value], defined)
    for param in program.params:
        with _located(program, partial(param_text, param)):
            _check_param(param, program.mesh)
            _define([param.value], defined)
    for op in program.ops:
        with _located(program, partial(op_text, op)):
            _check_uses(op.operands, defined)
            _check_op(op, program.mesh)
            _define(op.results, defined)
    returned: set[str] = set()
    for output in program.outputs:
        with _located(program, partial(output_text, output)):
            _check_uses([output.value], defined)
            _check_output(output, program.mesh, returned)


@contextmanager
def _located(program: Program, line: Callable[[], str]) -> Iterator[None]:
    """Add the program's name and the line to an error."""
    try:
        yield
    except KeyError as error:
        raise IRError(f"@{program.name}: attribute {error} is missing\n  {line()}") from error
    except (IRError, ValueError) as error:
        raise IRError(f"@{program.name}: {error}\n  {line()}") from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_header(program: Program) -> None:
    _require(_NAME.fullmatch(program.name) is not None, f"{program.name!r} is not a name")
    _require(min(program.mesh or (1, 1)) >= 1, "a mesh has at least one row and one column")
    _require(bool(program.outputs), "the program has no outputs")


def _check_input(item: Input, mesh: tuple[int, int] | None) -> None:
    _require(item.rate in RATES, f"rate {item.rate!r} is none of {', '.join(RATES)}")
    check_argument(item.value.type, mesh)


def _check_param(param: Param, mesh: tuple[int, int] | None) -> None:
    check_argument(param.value.type, mesh)
    check_recipe(param.recipe, param.value.type, mesh)


def _check_uses(values: list[Value], defined: dict[str, Value]) -> None:
    for value in values:
        _require(defined.get(value.name) is value, f"%{value.name} is not defined before its use")


def _define(values: list[Value], defined: dict[str, Value]) -> None:
    for value in values:
        _require(_NAME.fullmatch(value.name) is not None, f"{value.name!r} is not a name")
        _require(value.name not in defined, f"%{value.name} is defined twice")
        defined[value.name] = value


def _check_op(op: Op, mesh: tuple[int, int] | None) -> None:
    _check_attrs(op.attrs)
    for result in op.results:
        check_type(result.type, mesh)
    operands = [(value.type.local_shape, value.type.dtype) for value in op.operands]
    expected = infer(op.opcode, op.attrs, operands, mesh or (1, 1))
    found = [(value.type.local_shape, value.type.dtype) for value in op.results]
    _require(found == expected, f"results are {found} on a device, the op makes {expected}")
    if mesh is None:
        _require(op.opcode not in COLLECTIVES, f"{op.opcode} in a program without a mesh")
    elif op.opcode in COLLECTIVES:
        check_collective(op)
    _require(mesh is None or op.opcode != "annotate", "annotate in a partitioned program")
    if op.opcode in MASKED_DIMS:
        check_valid_ranges(op, mesh or (1, 1))


def _check_attrs(attrs: Attrs) -> None:
    for key, value in attrs.items():
        _require(key.isidentifier(), f"attribute {key!r} is not a name")
        _require(_is_plain(value), f"attribute {key} is {value!r}, not plain data")


def _is_plain(value: object) -> bool:
    """Return whether types are exact: a numpy scalar would not survive the text form."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (int, float, bool, str)


def _check_output(output: Output, mesh: tuple[int, int] | None, returned: set[str]) -> None:
    _require(output.name not in returned, f"output {output.name!r} is returned twice")
    check_argument(output.value.type, mesh)
    returned.add(output.name)
