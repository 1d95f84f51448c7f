"""What each value of a lowered program should be on each chip: what the IR's interpreter makes of the op it comes from.

All in float32, so that a lowered program whose values are not rounded agrees up to the order of its sums.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.artifacts.schema import ProgramOutput
from mochi_aot.compiler.ir import program as ir
from mochi_aot.compiler.ir.interpreter import evaluate
from mochi_aot.compiler.ir.numpy_values import Devices
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.lower.ttnn.lowerer import Form, Lowerer
from mochi_aot.compiler.lower.weights import Source, cut_axes, local_index, local_tensor
from mochi_aot.tools.golden.types import Chips

# Lowered to a mean and a variance for each channel, where the IR has three numbers for each group.
OTHER_STATISTICS = {"group_norm_stats"}


@dataclass(frozen=True)
class Wanted:
    """What an IR op makes, an array a chip, and the form in which the lowered program holds it."""

    op: ir.Op
    type: TensorType
    devices: Devices
    form: Form = Form.NATURAL

    def held(self, piece: torch.Tensor) -> np.ndarray:
        """A chip's tensor of the lowered program in the form of the IR's value. ValueError if it is of another size."""
        array = piece.numpy()
        if self.form is Form.HEADS_FIRST:
            array = array.transpose(0, 2, 1, 3)
        if self.form is Form.GROUPED:  # parts of three colours, each of 32 pixels
            array = array.reshape(*array.shape[:3], -1, 32, 3).swapaxes(3, 4)
        return np.asarray(array.reshape(self.type.local_shape))

    def extents(self, mesh: tuple[int, int]) -> list[tuple[slice, ...]]:
        """The part of each chip's array that is not padding."""
        indices = (local_index(self.type, chip) for chip in itertools.product(*map(range, mesh)))
        return [tuple(slice(part.stop - part.start) for part in index) for index in indices]


def wanted_values(
    lowerer: Lowerer, outputs: list[ProgramOutput], inputs: Mapping[str, Chips], source: Source
) -> dict[int, list[Wanted]]:
    """By the lowered program's value id. A value without an entry is none of the IR's.

    `lowerer` has lowered its program, to one with these `outputs`; `inputs` are that program's, in float32; `source`
    has the parameters.
    """
    program = in_float32(lowerer.source)
    renamed = dict(zip(program.values(), lowerer.source.values(), strict=True))
    devices = {item.value: _as_ir(inputs[item.value.name], item.value.type) for item in program.inputs}
    devices |= {param.value: _param(param, lowerer.mesh, source) for param in program.params}
    wanted: dict[int, list[Wanted]] = {}
    incomparable: set[ir.Value] = set()
    for op in program.ops:
        with np.errstate(over="ignore"):
            devices.update(zip(op.results, evaluate(op, lowerer.mesh, [devices[v] for v in op.operands]), strict=True))
        if op.opcode in OTHER_STATISTICS or (op.opcode == "all_gather" and op.operands[0] in incomparable):
            incomparable.update(op.results)
            continue
        for result in op.results:
            tensor = lowerer.tensors.get(renamed[result])
            if tensor is not None:  # otherwise a later op's rule does this op's work
                one = Wanted(op, result.type, devices[result], tensor.form)
                wanted.setdefault(tensor.value, []).append(one)
    makers = {result: op for op in program.ops for result in op.results}
    for output, made in zip(program.outputs, outputs, strict=True):
        wanted.setdefault(made.value, [Wanted(makers[output.value], output.value.type, devices[output.value])])
    return wanted


def in_float32(program: ir.Program) -> ir.Program:
    """The same program with float32 in the place of bfloat16, value by value."""
    values = {value: ir.Value(value.name, _in_float32(value.type)) for value in program.values()}
    return ir.Program(
        program.name,
        [ir.Input(values[item.value], item.rate) for item in program.inputs],
        [ir.Param(values[param.value], _recipe(param.recipe)) for param in program.params],
        [
            ir.Op(op.opcode, [values[v] for v in op.operands], [values[v] for v in op.results], _attrs(op), op.loc)
            for op in program.ops
        ],
        [ir.Output(output.name, values[output.value]) for output in program.outputs],
        program.mesh,
    )


def _in_float32(type: TensorType) -> TensorType:
    return replace(type, dtype="float32") if type.dtype == "bfloat16" else type


def _recipe(recipe: ir.Recipe) -> ir.Recipe:
    if not isinstance(recipe, ir.Concat):
        return recipe
    return ir.Concat(tuple((_recipe(part), _in_float32(type)) for part, type in recipe.parts), recipe.dim)


def _attrs(op: ir.Op) -> ir.Attrs:
    return {**op.attrs, "dtype": "float32"} if op.attrs.get("dtype") == "bfloat16" else dict(op.attrs)


def _as_ir(value: Chips, type: TensorType) -> Devices:
    """An input of the lowered program as the IR's: tables have one dimension less there, masks are numbers."""
    made = {
        id(piece): piece.numpy().reshape(type.local_shape).astype(DTYPES[type.dtype].held) for piece in value.pieces
    }
    return [made[id(piece)] for piece in value.pieces]


def _param(param: ir.Param, mesh: tuple[int, int], source: Source) -> Devices:
    axes = cut_axes(param.recipe, param.value.type)
    made: dict[tuple[int, ...], np.ndarray] = {}
    pieces = []
    for chip in itertools.product(*map(range, mesh)):
        coordinates = tuple(c if axis in axes else 0 for axis, c in enumerate(chip))
        if coordinates not in made:
            made[coordinates] = local_tensor(param.recipe, param.value.type, coordinates, source).numpy()
        pieces.append(made[coordinates])
    return pieces
