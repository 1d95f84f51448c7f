"""From an instruction to a callable: the op is looked up and its attributes are read once, when a program is loaded."""

from collections.abc import Callable, Mapping
from typing import Any

from mochi_aot.artifacts.schema import Instruction
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.mesh import Mesh, once_per_distinct
from mochi_aot.runtime.torch.positional import POSITIONAL
from mochi_aot.runtime.torch.types import Builder, Collective, CollectiveBuilder, Kernel, Value


def resolve(
    instruction: Instruction,
    mesh: Mesh,
    collectives: Mapping[str, CollectiveBuilder] = COLLECTIVES,
    kernels: Mapping[str, Builder] = KERNELS,
) -> Callable[..., Any] | None:
    """Return a callable on slots: bare tensors if this process is one device, else Values. None for an unknown op.

    `collectives` are those of a simulated mesh, or of one whose devices are processes; `kernels` those of the device.
    Raise KeyError, IndexError, TypeError or ValueError for attributes that are not those of the op.
    """
    op, single, results = instruction.op, len(mesh.held) == 1, len(instruction.results)
    if op in kernels:
        kernel = kernels[op](instruction.attrs)
        return kernel if single else _on_each_device(kernel, results)
    if op in POSITIONAL or op in collectives:
        collective = (POSITIONAL.get(op) or collectives[op])(mesh, instruction.attrs)
        return _on_one_device(collective, results) if single else collective
    return None


def _on_each_device(kernel: Kernel, results: int) -> Callable[..., Any]:
    def run_one(*operands: Value) -> Value:
        return once_per_distinct(kernel, zip(*operands, strict=True))

    def run_many(*operands: Value) -> list[Value]:
        return [list(value) for value in zip(*run_one(*operands), strict=True)]

    return run_one if results == 1 else run_many


def _on_one_device(collective: Collective, results: int) -> Callable[..., Any]:
    def run_one(*tensors: Any) -> Any:
        return collective(*([tensor] for tensor in tensors))[0]

    def run_many(*tensors: Any) -> Any:
        return [value[0] for value in collective(*([tensor] for tensor in tensors))]

    return run_one if results == 1 else run_many
