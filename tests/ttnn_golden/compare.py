"""Finds the first instruction of a program whose results depart from what is expected."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from tests.ttnn_golden.runner import Whole, place, run_on_chips
from tests.ttnn_golden.types import Value


@dataclass(frozen=True)
class Departure:
    """`result` is the instruction's result on chip `chip`, counted from 0; pcc is against what was expected."""

    index: int
    instruction: Instruction
    result: int
    chip: int
    pcc: float


def pcc(actual: Tensor, expected: Tensor) -> float:
    """Pearson's correlation; of a constant, one if both are the same and zero if not. Zero as well if a
    shape differs or a number is not finite."""
    if actual.shape != expected.shape:
        return 0.0
    a, b = (tensor.double().flatten() for tensor in (actual, expected))
    if not (a.isfinite().all() and b.isfinite().all()):
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    norms = float(a.norm() * b.norm())
    if norms == 0:
        return float(torch.allclose(actual.double(), expected.double(), rtol=1e-2, atol=1e-6))
    return float(a @ b) / norms


def record(
    program: Program, mesh: tuple[int, int], inputs: Mapping[str, Whole | Value], weights: Mapping[str, Value]
) -> dict[int, Value]:
    """What every instruction makes, by value id."""
    made: dict[int, Value] = {}

    def note(index: int, instruction: Instruction, results: list[Value]) -> None:
        made.update(zip(instruction.results, results, strict=True))

    run_on_chips(program, mesh, _placed(program, mesh, inputs), weights, note)
    return made


def first_departure(
    program: Program,
    mesh: tuple[int, int],
    inputs: Mapping[str, Whole | Value],
    weights: Mapping[str, Value],
    expected: Mapping[int, Value],
    threshold: float = 0.99,
) -> Departure | None:
    """The first result with a PCC below `threshold` on some chip, of those that `expected` has by value id."""
    found: list[Departure] = []

    def check(index: int, instruction: Instruction, results: list[Value]) -> None:
        for number, (value, result) in enumerate(zip(instruction.results, results, strict=True)):
            for chip, (actual, wanted) in enumerate(zip(result, expected.get(value, result), strict=True)):
                if found or actual is wanted:
                    continue
                agreement = pcc(actual, wanted)
                if agreement < threshold:
                    found.append(Departure(index, instruction, number, chip, agreement))

    run_on_chips(program, mesh, _placed(program, mesh, inputs), weights, check)
    return found[0] if found else None


def exact(program: Program) -> Program:
    """The same program with float32 in the place of bfloat16 and bfloat8_b: what it computes but for rounding.

    Its weights must be float32 as well.
    """
    return replace(
        program,
        inputs=[replace(source, spec=_exact_spec(source.spec)) for source in program.inputs],
        outputs=[replace(output, spec=_exact_spec(output.spec)) for output in program.outputs],
        instructions=[
            replace(instruction, attrs={**instruction.attrs, "dtype": _exact_dtype(str(instruction.attrs["dtype"]))})
            if "dtype" in instruction.attrs
            else instruction
            for instruction in program.instructions
        ],
    )


def _exact_spec(spec: TensorSpec) -> TensorSpec:
    return replace(spec, dtype=_exact_dtype(spec.dtype))


def _exact_dtype(dtype: str) -> str:
    return {"bfloat16": "float32", "bfloat8_b": "float32"}.get(dtype, dtype)


def _placed(program: Program, mesh: tuple[int, int], inputs: Mapping[str, Whole | Value]) -> dict[str, Value]:
    return {source.name: place(inputs[source.name], source.spec, mesh) for source in program.inputs}
