"""TtnnBackend: weights, values and programs on a mesh of Tenstorrent chips, real or mocked."""

from collections.abc import Iterable, Sequence
from typing import Self
from weakref import WeakSet

import numpy as np
import ttnn

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import MeshSettings, Program, TensorSpec
from mochi_aot.runtime.backend import Executable, KernelUse, Wait, no_wait
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.context import DTYPES
from mochi_aot.runtime.ttnn.executor import TtnnExecutable
from mochi_aot.runtime.ttnn.kernel_cache import KernelCache
from mochi_aot.runtime.ttnn.load_watch import LoadWatch
from mochi_aot.runtime.ttnn.mesh import close_mesh, open_mesh, reason
from mochi_aot.runtime.ttnn.placement import assemble, describe, pieces_on_host, split
from mochi_aot.runtime.ttnn.trace import TracedExecutable, can_trace, feeds_itself
from mochi_aot.runtime.ttnn.tuned import tuned_tensor
from mochi_aot.runtime.values import kinds_of


class TtnnBackend:
    """A Value is a ttnn tensor on all chips of the mesh."""

    on_host = False

    def __init__(self, mesh: ttnn.MeshDevice, kernels: KernelCache | None = None) -> None:
        """Use an open mesh, which stays the caller's unless `close` is called; `kernels` is where ttnn keeps them."""
        self.mesh, self._kernels = mesh, kernels
        rows, columns = mesh.shape
        self._shape = (rows, columns)
        self._weights: dict[str, ttnn.Tensor] = {}
        self._executables: WeakSet[TtnnExecutable | TracedExecutable] = WeakSet()

    @classmethod
    def open(cls, mesh: Sequence[int], settings: MeshSettings | None, kernels: KernelCache | None = None) -> Self:
        """Open a mesh of [rows, columns] chips. Raise BackendError if there is none, or a bundle does not say how."""
        if settings is None:
            raise BackendError("the bundle does not say how to open the mesh: compile it for ttnn")
        rows, columns = mesh
        return cls(open_mesh(rows, columns, settings), kernels)

    def close(self) -> None:
        """Close the mesh; the backend and its values are of no use any more."""
        self.free_weights(list(self._weights))
        close_mesh(self.mesh)
        if self._kernels is not None:
            self._kernels.close()

    def load_weights(self, bundle: Bundle, names: Iterable[str], wait: Wait = no_wait) -> None:
        """Upload weights as their tensor files hold them, each after `wait(name)`.

        A load that gets no further is told as a warning, with its file. Raise BackendError if one is missing or cannot
        be read.
        """
        watch = LoadWatch()
        with watch.watching():
            for name in names:
                if name not in bundle.weights:
                    raise BackendError(f"{bundle.path}: holds no weight {name!r}")
                wait(name)
                watch.begin(bundle.tensor_file(name))
                self._weights[name] = self._load(bundle, name)
                watch.begin(None)

    def weight(self, name: str) -> ttnn.Tensor:
        """Return a weight that is loaded. Raise KeyError if it is not."""
        return self._weights[name]

    def free_weights(self, names: Iterable[str]) -> None:
        """Forget these weights, and all that programs hold on the chips; names that are not loaded are ignored."""
        for executable in self._executables:
            executable.release()  # buffers of a phase that is over, and traces that read the weights
        for name in names:
            self._weights.pop(name, None)

    def memory_bytes(self) -> int:
        """Return the bytes of a chip's DRAM, without what is set apart for traces."""
        view = ttnn.get_memory_view(self.mesh, ttnn.BufferType.DRAM)
        return int(view.total_bytes_per_bank * view.num_banks)

    def load_program(self, program: Program) -> Executable:
        """Resolve a program's instructions. Raise BackendError for an op or attributes that the table does not have."""
        plain = TtnnExecutable(program, self.mesh, self._weights)
        traced = can_trace() and feeds_itself(program)
        executable = TracedExecutable(plain, program, self.mesh) if traced else plain
        self._executables.add(executable)
        return executable

    def upload(self, array: np.ndarray, spec: TensorSpec) -> ttnn.Tensor:
        """Copy array [*spec.shape] to the mesh, converted to spec.dtype. Raise BackendError for another shape."""
        return split(array, spec, self._shape).to(self.mesh, ttnn.DRAM_MEMORY_CONFIG)

    def fetch(self, value: ttnn.Tensor, spec: TensorSpec) -> np.ndarray:
        """Return a new array [*spec.shape], bfloat16 as float32. Raise BackendError if the value does not fit."""
        return assemble(value, spec, self._shape)

    def nonfinite(self, value: ttnn.Tensor) -> list[str]:
        """Return which of "NaN", "inf" and "-inf" any chip holds of a value, which is copied to the host."""
        kinds = {kind for piece in pieces_on_host(value) for kind in kinds_of(piece)}
        return sorted(kinds)

    def kernel_use(self) -> KernelUse | None:
        """Return what became of kernels since the last call, or since before the mesh was opened."""
        return None if self._kernels is None else self._kernels.use()

    def _load(self, bundle: Bundle, name: str) -> ttnn.Tensor:
        weight, path = bundle.weights[name], bundle.tensor_file(name)
        if path is None:
            raise BackendError(f"{bundle.path}: weight {name!r} has no tensor file; compile the bundle for ttnn")
        try:
            if name in bundle.tuned:
                tensor = tuned_tensor(bundle, name, path).to(self.mesh, ttnn.DRAM_MEMORY_CONFIG)
            else:
                tensor = ttnn.load_tensor(path, device=self.mesh)
        except RuntimeError as error:
            raise BackendError(f"{path}: weight {name!r} cannot be loaded: {reason(error)}") from error
        if list(tensor.shape) != weight.local_shape or tensor.dtype != DTYPES[weight.dtype]:
            expected = f"{weight.dtype} {weight.local_shape}"
            raise BackendError(f"{path}: weight {name!r}: expected {expected}, seen {describe(tensor)}")
        return tensor
