"""How the ttnn backend computes an instruction list. A slot holds a tensor on all chips of the mesh.

Clearing its slot frees a value: ttnn counts the tensors that share a buffer, such as a reshape and what it was made
from, and the last one gives the buffer back. (ttnn.deallocate would take it from the others.)
"""

from collections.abc import Mapping
from typing import Any

import ttnn

from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from mochi_aot.artifacts.ttnn_defects import known_defect, may_be_defective
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.executor import Build, Call, InstructionExecutor
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.mesh import reason
from mochi_aot.runtime.ttnn.mock.installation import ttnn_version
from mochi_aot.runtime.ttnn.ops import OPS
from mochi_aot.runtime.ttnn.placement import describe, mismatch


class TtnnExecutable(InstructionExecutor):
    """A program over a mesh of chips."""

    backend = "ttnn"

    def __init__(self, program: Program, mesh: ttnn.MeshDevice, weights: Mapping[str, ttnn.Tensor]) -> None:
        """Resolve a program: see InstructionExecutor."""
        self._mesh = mesh
        self._ttnn_version = ttnn_version()  # found in files of the installation: once, and not for each instruction
        super().__init__(program, weights)

    def _builder(self) -> Build:
        context = Context(self._mesh)

        def build(instruction: Instruction) -> Call | None:
            if instruction.op not in OPS:
                return None
            call = OPS[instruction.op](instruction.attrs, context)
            return self._refusing_defects(call, instruction) if may_be_defective(instruction.op) else call

        return build

    def _refusing_defects(self, call: Call, instruction: Instruction) -> Call:
        """Return `call`, unless the operands that it is called with meet a known defect of the installed ttnn."""
        rows, columns = self._mesh.shape

        def checked(*tensors: ttnn.Tensor) -> Any:
            shapes = [tuple(tensor.shape) for tensor in tensors]
            defect = known_defect(instruction.op, instruction.attrs, shapes, (rows, columns), self._ttnn_version)
            if defect is not None:
                raise BackendError(f"it would be wrong on chips: {defect}; compile the bundle again with this version")
            return call(*tensors)

        return checked

    def _mismatch(self, value: ttnn.Tensor, spec: TensorSpec) -> str | None:
        return mismatch(value, spec)

    def _describe(self, slot: ttnn.Tensor) -> str:
        return describe(slot)

    def _reason(self, error: Exception) -> str:
        return reason(error)
