"""How the torch backend computes an instruction list. Where a process is one device, slots hold tensors."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from mochi_aot.artifacts.schema import Program, TensorSpec
from mochi_aot.runtime.backend import Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.executor import Build, InstructionExecutor
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.device_errors import kind_of, reason_of
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.resolve import resolve
from mochi_aot.runtime.torch.types import DTYPES, Builder, CollectiveBuilder, Value


class TorchExecutable(InstructionExecutor):
    """A program on the devices of the mesh that this process is: all of them, which it simulates, or one."""

    backend = "torch"

    def __init__(
        self,
        program: Program,
        mesh: Mesh,
        weights: Mapping[str, Value],
        is_loaded: Callable[[str], bool] = lambda name: True,
        collectives: Mapping[str, CollectiveBuilder] = COLLECTIVES,
        kernels: Mapping[str, Builder] = KERNELS,
    ) -> None:
        """Resolve a program: see InstructionExecutor."""
        self._mesh, self._collectives, self._kernels = mesh, collectives, kernels
        self._single = len(mesh.held) == 1
        super().__init__(program, weights, is_loaded)

    def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> dict[str, Value]:
        """Return outputs by name: see InstructionExecutor.run."""
        with torch.inference_mode():
            return super().run(inputs, watch)

    def _builder(self) -> Build:
        return lambda instruction: resolve(instruction, self._mesh, self._collectives, self._kernels)

    def _slot(self, value: Value) -> Any:
        return value[0] if self._single else value

    def _value(self, slot: Any) -> Value:
        return [slot] if self._single else slot

    def _mismatch(self, value: Value, spec: TensorSpec) -> str | None:
        """Compare the first tensor: those of all devices have the same shape."""
        tensor, count = value[0], len(value)
        same = list(tensor.shape) == spec.local_shape and tensor.dtype is DTYPES[spec.dtype]
        if same and count == len(self._mesh.held):
            return None
        expected = f"{spec.dtype}{spec.local_shape} on {len(self._mesh.held)} devices"
        return f"expected {expected}, seen {_describe(tensor)} on {count}"

    def _describe(self, slot: Any) -> str:
        return _describe(slot if self._single else slot[0])

    def _kind(self, error: Exception) -> type[BackendError]:
        return kind_of(error)

    def _reason(self, error: Exception) -> str:
        return reason_of(error)


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
