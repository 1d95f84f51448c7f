"""TorchBackend: weights, values and programs on a mesh simulated in this process, or on the one device that it is."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from mochi_aot.artifacts.dtypes import held_dtype
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Program, TensorSpec
from mochi_aot.runtime.backend import Wait, no_wait
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.executor import TorchExecutable
from mochi_aot.runtime.torch.finite import nonfinite_kinds
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, split
from mochi_aot.runtime.torch.types import DTYPES, CollectiveBuilder, Value
from mochi_aot.runtime.torch.weights import Weights


class TorchBackend:
    """All devices of the mesh are tensors on one torch device, "cpu" or "cuda"."""

    collectives: Mapping[str, CollectiveBuilder] = COLLECTIVES

    def __init__(self, rows: int, columns: int, device: str = "cpu") -> None:
        """Raise BackendError if there is no such device."""
        prepare_device(device)
        self._hold(Mesh(rows, columns), torch.device(device))

    def _hold(self, mesh: Mesh, device: torch.device) -> None:
        self.mesh, self.device = mesh, device
        self.on_host = device.type == "cpu"
        self._weights = Weights(device, mesh.held)

    def load_weights(self, bundle: Bundle, names: Iterable[str], wait: Wait = no_wait) -> None:
        """Make weights known: on the CPU they are the mapped file itself, of which nothing is read before its use.

        A program waits for each weight only when it comes to the first instruction that reads it. Raise BackendError if
        a weight is missing.
        """
        for name in names:
            if name not in bundle.weights:
                raise BackendError(f"{bundle.path}: holds no weight {name!r}")
            self._weights.load(bundle, name, wait)

    def free_weights(self, names: Iterable[str]) -> None:
        """Forget these weights; names that are not loaded are ignored."""
        self._weights.free(names)

    def memory_bytes(self) -> None:
        """Return None: the devices are this host's, whose memory other processes use too."""

    def load_program(self, program: Program) -> TorchExecutable:
        """Resolve a program's instructions. Raise BackendError for an op or attributes that the tables do not have."""
        return TorchExecutable(program, self.mesh, self._weights, self._weights.is_made, self.collectives)

    def upload(self, array: np.ndarray, spec: TensorSpec) -> Value:
        """Copy array [*spec.shape] to the mesh. Raise BackendError if its shape or dtype is not what `spec` says."""
        check_array(array, spec)
        whole = from_host(array).to(self.device, DTYPES[spec.dtype])
        return split(whole, spec, self.mesh)

    def fetch(self, value: Value, spec: TensorSpec) -> np.ndarray:
        """Return a new array [*spec.shape], bfloat16 as float32. Raise BackendError if the value does not fit."""
        self.check_value(value, spec)
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
        self._weights.free(list(self._weights))

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


def prepare_device(device: str) -> None:
    """Raise BackendError if there is no such device; have a GPU compute float32 in float32."""
    if device not in ("cpu", "cuda"):
        raise BackendError(f"device {device!r}: expected cpu or cuda")
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise BackendError("device cuda: torch finds no usable GPU here; use cpu")
    # float32 means float32: convolutions would otherwise be computed in TensorFloat-32.
    torch.backends.cudnn.allow_tf32 = False
