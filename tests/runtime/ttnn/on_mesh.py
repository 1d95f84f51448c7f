"""The process that has the mock mesh, and programs of a few instructions built by hand for it."""

import atexit
import gc
import importlib
import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from mochi_aot.artifacts.schema import (
    Attr,
    Instruction,
    Placement,
    Program,
    ProgramInput,
    ProgramOutput,
    ProgramStats,
    ProgramWeight,
    TensorSpec,
)
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock

ROWS, COLUMNS = 4, 8
_opened: list[Any] = []


def open_mock_mesh(folder: Path) -> None:
    """Called once in the process, before anything that imports ttnn."""
    os.environ["LOGURU_LEVEL"] = "WARNING"
    enter_mock(prepare_mock((ROWS, COLUMNS), folder))
    from mochi_aot.runtime.ttnn.backend import TtnnBackend

    _opened.append(TtnnBackend.open((ROWS, COLUMNS), mesh_settings((ROWS, COLUMNS))))
    atexit.register(_opened[0].close)


def call(module: str, function: str, arguments: dict[str, Any]) -> str | None:
    """Runs a test function in this process; returns the traceback if it fails."""
    try:
        getattr(importlib.import_module(module), function)(**arguments)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001  # of any kind: it is shown by the other process
        return traceback.format_exc()
    return None


def backend() -> Any:
    """A TtnnBackend on the open mesh, with no weights."""
    from mochi_aot.runtime.ttnn.backend import TtnnBackend

    return TtnnBackend(_opened[0].mesh)


def used() -> int:
    """Bytes allocated in a DRAM bank of a chip."""
    import ttnn

    gc.collect()
    view = ttnn.get_memory_view(_opened[0].mesh, ttnn.BufferType.DRAM)
    return int(view.total_bytes_allocated_per_bank)


def spec(
    shape: list[int],
    dtype: str = "bfloat16",
    layout: str = "tile",
    rows: Placement | None = None,
    columns: Placement | None = None,
) -> TensorSpec:
    """A TensorSpec whose local shape follows from the placements."""
    local = list(shape)
    for placement in (rows, columns):
        if placement is not None:
            local[placement.dim] = placement.chunk
    return TensorSpec(dtype, list(shape), local, [rows, columns], layout)


def instruction(op: str, operands: list[int], results: list[int], free: list[int], **attrs: Attr) -> Instruction:
    """An instruction from line 1 of a file with its name."""
    return Instruction(op, operands, results, attrs, free, f"{op}.py:1")


def program(
    inputs: dict[str, TensorSpec],
    weights: list[str],
    outputs: dict[str, tuple[int, TensorSpec]],
    instructions: list[Instruction],
    mesh: tuple[int, int] = (ROWS, COLUMNS),
    weight: tuple[int, ...] = (32, 32),
    name: str = "sample",
) -> Program:
    """Value ids number the inputs, then the weights, each bfloat16 with this local shape; `outputs` gives ids of
    results."""
    return Program(
        name=name,
        mesh=list(mesh),
        plan="single",
        inputs=[ProgramInput(name, i, spec, "latent") for i, (name, spec) in enumerate(inputs.items())],
        weights=[ProgramWeight(name, len(inputs) + i, "bfloat16", list(weight)) for i, name in enumerate(weights)],
        outputs=[ProgramOutput(name, value, spec) for name, (value, spec) in outputs.items()],
        instructions=instructions,
        stats=ProgramStats(0, 0, 0, {}),
    )
