"""What the torch backend itself costs: the time of an instruction beyond its kernel's."""

import statistics

import numpy as np
import torch

from mochi_aot.artifacts.schema import (
    Instruction,
    Program,
    ProgramInput,
    ProgramOutput,
    ProgramStats,
    TensorSpec,
)
from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.tools.benchmarks.timing import compare

INSTRUCTIONS = 2000
SPEC = TensorSpec("float32", [1], [1], [None, None])


def instruction_overhead(repetitions: int) -> float:
    """Return the seconds that the backend adds to a kernel, on a mesh of one device.

    A program of INSTRUCTIONS additions of one number each is run in turns with a loop that calls torch.add as often;
    the difference per instruction is what looking up operands, keeping the result and freeing dead values costs.
    """
    backend = TorchBackend(1, 1)
    executable = backend.load_program(additions(INSTRUCTIONS))
    values = {"x": backend.upload(np.ones(1, np.float32), SPEC)}
    one = torch.ones(1)

    def loop() -> None:
        total = one
        with torch.inference_mode():
            for _ in range(INSTRUCTIONS):
                total = torch.add(total, one)

    times = compare(lambda: executable.run(values), loop, repetitions)
    differences = [program - kernels for program, kernels in zip(times.ours, times.theirs, strict=True)]
    return statistics.median(differences) / INSTRUCTIONS


def additions(count: int) -> Program:
    """Return the program of y = x + x + ... + x, `count` additions, each freeing the sum before it."""
    instructions = [
        Instruction("add", [index, 0], [index + 1], {}, [index] if index > 0 else [], "additions")
        for index in range(count)
    ]
    inputs, outputs = [ProgramInput("x", 0, SPEC, "latent")], [ProgramOutput("y", count, SPEC)]
    return Program("additions", [1, 1], "one", inputs, [], outputs, instructions, ProgramStats(count, 0, 0, {}))
