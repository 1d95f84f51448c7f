"""Programs of a few instructions, built by hand, and tensors with known contents."""

import torch
from torch import Tensor

from mochi_aot.artifacts.schema import (
    Instruction,
    Placement,
    Program,
    ProgramInput,
    ProgramOutput,
    ProgramStats,
    ProgramWeight,
    TensorSpec,
)
from mochi_aot.runtime.torch.kernels import KERNELS


def kernel(op: str, *tensors: Tensor, **attrs: object) -> Tensor:
    """Result of a local op with one result."""
    result = KERNELS[op](attrs)(*tensors)
    assert isinstance(result, Tensor)
    return result


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def spec(
    shape: list[int], dtype: str = "float32", rows: Placement | None = None, columns: Placement | None = None
) -> TensorSpec:
    """A TensorSpec whose local shape follows from the placements."""
    local = list(shape)
    for placement in (rows, columns):
        if placement is not None:
            local[placement.dim] = placement.chunk
    return TensorSpec(dtype, list(shape), local, [rows, columns])


def instruction(op: str, operands: list[int], results: list[int], free: list[int], **attrs: object) -> Instruction:
    return Instruction(op, operands, results, attrs, free, f"{op}.py:1")  # type: ignore[arg-type]


def program(
    inputs: dict[str, TensorSpec],
    weights: list[str],
    outputs: dict[str, tuple[int, TensorSpec]],
    instructions: list[Instruction],
) -> Program:
    """Value ids number the inputs, then the weights; `outputs` gives ids of results."""
    return Program(
        name="sample",
        mesh=[1, 1],
        plan="single",
        inputs=[ProgramInput(name, i, spec, "latent") for i, (name, spec) in enumerate(inputs.items())],
        weights=[ProgramWeight(name, len(inputs) + i, "float32", [1]) for i, name in enumerate(weights)],
        outputs=[ProgramOutput(name, value, spec) for name, (value, spec) in outputs.items()],
        instructions=instructions,
        stats=ProgramStats(0, 0, 0, {}),
    )
