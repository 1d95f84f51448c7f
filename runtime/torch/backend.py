"""TorchBackend: weights, values and programs on a mesh simulated in this process, or on the one device that it is."""

import weakref
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from mochi_aot.artifacts.dtypes import held_dtype
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Program, TensorSpec
from mochi_aot.runtime.backend import Executable, Wait, no_wait
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.device_errors import device_errors
from mochi_aot.runtime.torch.executor import TorchExecutable
from mochi_aot.runtime.torch.finite import nonfinite_kinds
from mochi_aot.runtime.torch.gpu.device import GpuExecutable, choose_gpu
from mochi_aot.runtime.torch.gpu.fusion import fuse
from mochi_aot.runtime.torch.gpu.graph import CudaRecorder, RecordedExecutable, feeds_itself
from mochi_aot.runtime.torch.gpu.kernels import gpu_kernels
from mochi_aot.runtime.torch.gpu.uploads import CudaCopier, Uploads
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, split
from mochi_aot.runtime.torch.types import DTYPES, Builder, CollectiveBuilder, Value
from mochi_aot.runtime.torch.weights import Weights


class TorchBackend:
    """All devices of the mesh are tensors on one torch device, "cpu" or "cuda"."""

    collectives: Mapping[str, CollectiveBuilder] = COLLECTIVES

    def __init__(self, rows: int, columns: int, device: str = "cpu") -> None:
        """Raise BackendError if there is no such device."""
        self._hold(Mesh(rows, columns), find_device(device))

    def _hold(self, mesh: Mesh, device: torch.device) -> None:
        self.mesh, self.device = mesh, device
        self.on_host = device.type == "cpu"
        self._uploads = None if self.on_host else Uploads(CudaCopier(device))
        self._weights = Weights(mesh.held, self._uploads)
        self._recorded: weakref.WeakSet[RecordedExecutable] = weakref.WeakSet()

    def load_weights(self, bundle: Bundle, names: Iterable[str], wait: Wait = no_wait) -> None:
        """Make weights known: on the CPU they are the mapped file itself, of which nothing is read before its use.

        A program waits for each weight only when it comes to the first instruction that reads it. Raise BackendError if
        a weight is missing.
        """
        for name in names:
            if name not in bundle.weights:
                raise BackendError(f"{bundle.path}: holds no weight {name!r}")
            self._weights.load(bundle, name, wait)

    def hold_weight(self, name: str, value: Value) -> None:
        """Take a weight that is on the devices already, and of no bundle."""
        self._weights.hold(name, value)

    def free_weights(self, names: Iterable[str]) -> None:
        """Forget these weights, and what else programs hold on a GPU; names that are not loaded are ignored."""
        for executable in self._recorded:
            executable.release()
        self._weights.free(names)
        if not self.on_host:
            torch.cuda.empty_cache()  # in pieces of a phase's sizes, memory is of little use to the next one

    def memory_bytes(self) -> None:
        """Return None: the devices are this host's, whose memory other processes use too."""

    def load_program(self, program: Program) -> Executable:
        """Resolve a program's instructions. Raise BackendError for an op or attributes that the tables do not have."""
        plain = self._executable(program, KERNELS)
        return plain if self.on_host else self._on_gpu(program, plain)

    def _on_gpu(self, program: Program, plain: Executable) -> Executable:
        kernels = gpu_kernels()
        executable: Executable = plain
        if kernels is not KERNELS:
            program = fuse(program)
            executable = self._executable(program, kernels)
        if self.mesh.size == 1 and feeds_itself(program):
            recorded = RecordedExecutable(executable, program, CudaRecorder(self.device))
            self._recorded.add(recorded)
            executable = recorded
        return GpuExecutable(executable, plain, program.name, self.device)

    def _executable(self, program: Program, kernels: Mapping[str, Builder]) -> TorchExecutable:
        return TorchExecutable(program, self.mesh, self._weights, self._weights.is_made, self.collectives, kernels)

    def upload(self, array: np.ndarray, spec: TensorSpec) -> Value:
        """Copy array [*spec.shape] to the mesh. Raise BackendError if its shape or dtype is not what `spec` says."""
        check_array(array, spec)
        with device_errors("an upload"):
            whole = from_host(array).to(self.device, DTYPES[spec.dtype])
            return split(whole, spec, self.mesh)

    def fetch(self, value: Value, spec: TensorSpec) -> np.ndarray:
        """Return a new array [*spec.shape], bfloat16 as float32. Raise BackendError if the value does not fit."""
        self.check_value(value, spec)
        with device_errors("a download"):
            return to_host(assemble(value, spec, self.mesh))

    def check_value(self, value: Value, spec: TensorSpec) -> None:
        """Raise BackendError if a value does not fit `spec`, or this process's part of the mesh."""
        shape, count = list(value[0].shape), len(self.mesh.held)
        if shape != spec.local_shape or len(value) != count:
            expected = f"{spec.local_shape} on {count} devices"
            raise BackendError(f"fetch: expected {expected}, seen {shape} on {len(value)}")

    def nonfinite(self, value: Value) -> list[str]:
        """Return which of "NaN", "inf" and "-inf" are in a value, on any device."""
        tensors = {id(tensor): tensor for tensor in value}.values()
        return nonfinite_kinds(tensors)

    def close(self) -> None:
        """Forget all weights: the devices are this process."""
        self.free_weights(list(self._weights))
        if self._uploads is not None:
            self._uploads.close()

    def kernel_use(self) -> None:
        """Return None: torch builds no kernels."""


def check_array(array: np.ndarray, spec: TensorSpec) -> None:
    """Raise BackendError if an array that is to be uploaded has another shape or dtype than `spec` says."""
    expected = held_dtype(spec.dtype)
    if list(array.shape) != spec.shape or array.dtype != expected:
        raise BackendError(f"upload: expected {expected}{spec.shape}, seen {array.dtype}{list(array.shape)}")


def from_host(array: np.ndarray) -> torch.Tensor:
    """Return a copy of an array in memory of torch's own: a product's last bits depend on how operands are aligned."""
    copy = torch.from_numpy(np.empty(0, array.dtype)).new_empty(array.shape)
    copy.numpy()[...] = array
    return copy


def to_host(whole: torch.Tensor) -> np.ndarray:
    """Return a new array of a tensor, bfloat16 as float32."""
    whole = whole.cpu()
    return np.array(whole.float() if whole.dtype is torch.bfloat16 else whole)


def find_device(device: str, index: int | None = None) -> torch.device:
    """Return the device "cpu" or "cuda", of which the GPU with an index, or the current one. Raise BackendError."""
    if device not in ("cpu", "cuda"):
        raise BackendError(f"device {device!r}: expected cpu or cuda")
    return torch.device(device) if device == "cpu" else choose_gpu(index)
