"""Lowered programs, with what is needed to find the first of their instructions that is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from mochi_aot.artifacts.schema import Program
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.lower.ttnn.lowerer import Tensor
from mochi_aot.tools.golden.types import Chips
from tests.ttnn_golden.against_ir import Wrong, first_wrong
from tests.ttnn_golden.ir_values import Wanted, wanted_values
from tests.ttnn_golden.lowered_model import LoweredModel


@dataclass(frozen=True)
class Subject:
    """A program as it is in a bundle, and in float32 its inputs, its weights and what its values should be."""

    program: Program
    mesh: tuple[int, int]
    inputs: dict[str, Chips]
    weights: dict[str, Chips]
    wanted: dict[int, list[Wanted]]
    made: Sequence[Tensor]

    @classmethod
    def of(cls, model: LoweredModel, role: str, inputs: dict[str, Chips], checkpoint: Checkpoint) -> "Subject":
        """`model` is one that rounds nothing."""
        program, lowerer = model.programs[role].program, model.lowerers[role]
        wanted = wanted_values(lowerer, program.outputs, inputs, checkpoint)
        return cls(program, model.mesh, inputs, model.weights[role], wanted, lowerer.made)

    def first_wrong(self) -> Wrong | None:
        """By its numbers, or by the form that the lowering has decided on."""
        return first_wrong(self.program, self.mesh, self.inputs, self.weights, self.wanted, self.made)

    def first_wrong_of(self, program: Program) -> Wrong | None:
        """Of a changed program, by its numbers alone."""
        return first_wrong(program, self.mesh, self.inputs, self.weights, self.wanted)
