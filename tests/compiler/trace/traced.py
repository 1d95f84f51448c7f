"""Functions as modules to trace, and their results in torch and through the interpreter."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.trace.export import trace

Function = Callable[..., Tensor]


class FunctionModule(nn.Module):
    """A function of tensors; `like` gives the shapes and dtypes of its arguments."""

    def __init__(self, function: Function, like: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.function = function
        self.specs = [(tuple(tensor.shape), tensor.dtype) for tensor in like]

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.function(*arguments)

    def example_inputs(self) -> dict[str, Tensor]:
        return {f"x{i}": torch.zeros(shape, dtype=dtype) for i, (shape, dtype) in enumerate(self.specs)}


def traced(function: Function, *arguments: Tensor) -> Program:
    """The verified program of a function: inputs x0, x1, ..., output y."""
    program = trace("traced", lambda: FunctionModule(function, arguments), {}, "y")
    verify(program)
    return program


def opcodes(program: Program) -> list[str]:
    return [op.opcode for op in program.ops]


def numpy(tensor: Tensor) -> np.ndarray:
    """As the interpreter holds it: bfloat16 as float32, int64 as int32."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    if tensor.dtype == torch.int64:
        tensor = tensor.int()
    return np.asarray(tensor.detach().numpy())


def interpret(program: Program, *arguments: Tensor) -> np.ndarray:
    """The output of a program whose parameters are all constants."""
    return run(program, {f"x{i}": numpy(tensor) for i, tensor in enumerate(arguments)}, {})["y"]


def check(function: Function, *arguments: Tensor, tolerance: float = 1e-6) -> Program:
    """Traces, interprets and compares with torch: dtype, shape, and numbers relative to the largest."""
    program = traced(function, *arguments)
    expected = numpy(function(*arguments))
    actual = interpret(program, *arguments)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    scale = max(1.0, float(np.abs(expected.astype(np.float32)).max()))
    difference = np.abs(actual.astype(np.float32) - expected.astype(np.float32)).max()
    assert difference <= tolerance * scale
    return program
