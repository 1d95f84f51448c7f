"""Reads the row of a step from a table: see tables.py for the two forms that tables have."""

import numpy as np

from mochi_aot.compiler.ir.ops import integer
from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Lowerer, Tensor
from mochi_aot.compiler.lower.ttnn.rules.shape import reshaped, sliced
from mochi_aot.compiler.lower.ttnn.rules.table import rule


@rule("select")
def select(lo: Lowerer, op: Op) -> None:
    """Look a row up as an embedding, or pick it out of short exact rows by a sum with one term.

    A batch has a line of the table for each of its rows. Where each of them is used by itself, or each chip uses one of
    them, only these are looked up, and nothing is cut apart afterwards.
    """
    table, index = lo.tensors[op.operands[0]], lo.tensors[op.operands[1]]
    if table.layout == TILE:
        _pick(lo, op, table, index)
        return
    lines = table.shape[0] // op.operands[0].type.local_shape[0]
    numbers = _line_numbers(lo, index, lines)
    rows, cut = _rows(lo, op.result), lo.only_user(op.result)
    if rows:
        for piece in rows:
            start = integer(piece.attrs["start"])
            _look_up(lo, table, _line(lo, numbers, start), piece.result)
        lo.absorbed.update(rows)
    elif cut is not None and cut.opcode == "shard" and (cut.attrs["dim"], cut.attrs["chunk"]) == (0, 1):
        axis = integer(cut.attrs["axis"])
        _look_up(lo, table, _own(lo, numbers, axis), cut.result)
        lo.absorbed.add(cut)
    else:
        _look_up(lo, table, numbers, op.result)


def _look_up(lo: Lowerer, table: Tensor, numbers: Tensor, result: Value) -> None:
    """Emit the lookup of lines [n, 1] as what an IR value is to be."""
    shape = (*numbers.shape, table.shape[1])
    made = lo.emit("embedding", [numbers, table], shape, out_dtype=table.dtype, out_layout=TILE, layout=TILE)
    lo.tensors[result] = reshaped(lo, made, result.type.local_shape)


def _rows(lo: Lowerer, value: Value) -> list[Op]:
    """Return the slices of one row each, if nothing else reads a batch."""
    users = lo.users[value]
    is_output = any(output.value is value for output in lo.source.outputs)
    single = all(
        user.opcode == "slice"
        and user.attrs["dim"] == 0
        and integer(user.attrs["stop"]) - integer(user.attrs["start"]) == 1
        for user in users
    )
    return users if single and not is_output else []


def _line_numbers(lo: Lowerer, index: Tensor, lines: int) -> Tensor:
    """Return the numbers of a step's lines, uint32 [lines, 1], row by row: step * lines and those that follow."""
    key = ("lines", index.value, lines)
    if key not in lo.cache:
        if lines == 1:
            lo.cache[key] = lo.emit("reshape", [index], (1, 1), shape=[1, 1])
        else:
            step = _as_float(lo, index)
            first = lo.emit("multiply", [step], (1, 1), value=float(lines))
            following = lo.constant("lines", np.arange(lines, dtype=np.float32)[:, None])
            numbers = lo.emit("add", [following, first], (lines, 1), dtype="float32")
            lo.cache[key] = lo.to_layout(lo.to_dtype(numbers, "uint32"), ROW_MAJOR)
    return lo.cache[key]


def _line(lo: Lowerer, numbers: Tensor, row: int) -> Tensor:
    """Return the number of one line of a step, [1, 1]."""
    key = ("line", numbers.value, row)
    if key not in lo.cache:
        lo.cache[key] = sliced(lo, numbers, 0, row, row + 1)
    return lo.cache[key]


def _own(lo: Lowerer, numbers: Tensor, axis: int) -> Tensor:
    """Return the number of each chip's own line, [1, 1]."""
    key = ("own line", numbers.value, axis)
    if key not in lo.cache:
        lo.cache[key] = lo.emit("mesh_partition", [numbers], (1, 1), dim=0, axis=axis)
    return lo.cache[key]


def _pick(lo: Lowerer, op: Op, table: Tensor, index: Tensor) -> None:
    rows, length = table.shape
    picked = lo.emit("multiply", [table, _one_hot(lo, index, rows)], table.shape)
    row = lo.emit("sum", [picked], (1, length), dim=[0], keepdim=True, compute="hifi4")
    shape = op.result.type.local_shape
    lo.tensors[op.result] = lo.emit("reshape", [row], shape, shape=list(shape)) if row.shape != shape else row


def _one_hot(lo: Lowerer, index: Tensor, rows: int) -> Tensor:
    """Return float32 [rows, 1]: one at the index, zero elsewhere."""
    key = ("one_hot", index.value, rows)
    if key not in lo.cache:
        counting = lo.constant("rows", np.arange(rows, dtype=np.float32)[:, None])
        lo.cache[key] = lo.emit("eq", [counting, _as_float(lo, index)], (rows, 1))
    return lo.cache[key]


def _as_float(lo: Lowerer, index: Tensor) -> Tensor:
    """Return an index [1] as float32 [1, 1], which is exact."""
    key = ("index", index.value)
    if key not in lo.cache:
        number = lo.emit("reshape", [index], (1, 1), shape=[1, 1])
        lo.cache[key] = lo.to_dtype(lo.to_layout(number, TILE), "float32")
    return lo.cache[key]
