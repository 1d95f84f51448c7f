"""The program that partitioning makes, as the rules see it: values placed so far, and how to move and emit them."""

from collections.abc import Sequence

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Attrs, Checkpoint, Op, Param, Program, Value
from mochi_aot.compiler.ir.types import REPLICATE, Partial, Placement, TensorType
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Cut, Plan, param_placements, value_placements
from mochi_aot.compiler.partition.reshard import moves

Placements = tuple[Placement, ...]
WHOLE: Placements = (REPLICATE, REPLICATE)


class Partitioner:
    """What the rules use: `reshard` an operand, `emit` an op. Parameters are cut at will, without collectives."""

    def __init__(self, program: Program, mesh: Mesh, plan: Plan) -> None:
        self.source, self.mesh, self.plan = program, mesh, plan
        self.builder = Builder(program.name, mesh)
        self.values: dict[Value, Value] = {}
        self.params: dict[Value, Param] = {}  # of the new program
        self.moved: dict[tuple[Value, Placements], Value] = {}
        self.loc = ""

    def begin(self) -> None:
        """Place inputs and parameters as the plan says."""
        for item in self.source.inputs:
            value = item.value
            placed = self._placed_by(self.plan.inputs.get(value.name, ()), value.type.shape)
            self.values[value] = self.builder.input(value.name, value.type.placed(placed), item.rate)
        for param in self.source.params:
            self.values[param.value] = self._param(param, self._seed(param))

    def operands(self, op: Op) -> list[Value]:
        """Return what the operands of an op of the source became."""
        return [self.values[value] for value in op.operands]

    def finish(self) -> Program:
        """Return the program made: outputs are whole on every device but for those that the plan leaves cut."""
        for output in self.source.outputs:
            value = self.values[output.value]
            kept = output.name in self.plan.cut_outputs
            self.builder.output(output.name, self.summed(value) if kept else self.reshard(value, WHOLE))
        return self.builder.program

    def _seed(self, param: Param) -> Placements:
        if not isinstance(param.recipe, Checkpoint):
            return WHOLE
        return param_placements(self.plan, param.recipe.name, param.value.type.shape, self.mesh)

    def _param(self, param: Param, placements: Placements, suffix: str = "") -> Value:
        value = self.builder.param(param.value.name + suffix, param.value.type.placed(placements), param.recipe)
        self.params[value] = param
        return value

    def fail(self, reason: str) -> PlanError:
        """Return the error for an op that the plan cannot place."""
        place = f", {self.loc}" if self.loc else ""
        return PlanError(f"plan {self.plan.name}, program {self.source.name}{place}: {reason}")

    def annotated(self, name: str, shape: tuple[int, ...]) -> Placements | None:
        """Return where the plan wants the value that the reference calls `name`; None if it does not say."""
        cuts = self.plan.values.get(name)
        return None if cuts is None else self._placed_by(cuts, shape)

    def _placed_by(self, cuts: tuple[Cut, ...], shape: tuple[int, ...]) -> Placements:
        try:
            return value_placements(cuts, shape, self.mesh)
        except PlanError as error:
            raise self.fail(str(error)) from None

    def reshard(self, value: Value, placements: Sequence[Placement]) -> Value:
        """Return `value` under `placements`, by collectives if need be; asked twice, moved once."""
        target = tuple(placements)
        if value.type.placements == target:
            return value
        key = (value, target)
        if key not in self.moved:
            self.moved[key] = self._move(value, target)
        return self.moved[key]

    def _move(self, value: Value, target: Placements) -> Value:
        if value in self.params:
            return self._param(self.params[value], target, f".cut_{len(self.moved)}")
        return self.collected(value, target)

    def collected(self, value: Value, target: Placements) -> Value:
        """Return `value` under the placements `target`, by collectives emitted here."""
        for step in moves(value.type, target):
            (value,) = self.builder.emit_typed(step.opcode, [value], [step.type], step.attrs, self.loc)
        return value

    def summed(self, value: Value) -> Value:
        """Return `value` with its partial sums added up."""
        return self.reshard(value, [REPLICATE if isinstance(p, Partial) else p for p in value.type.placements])

    def emit(
        self,
        op: Op,
        operands: list[Value],
        placements: Sequence[Placement],
        attrs: Attrs | None = None,
    ) -> list[Value]:
        """Emit a local copy of the one-result `op` on placed operands."""
        type = op.result.type.placed(tuple(placements))
        return self.emit_as(op.opcode, operands, [type], op.attrs if attrs is None else attrs)

    def emit_as(self, opcode: str, operands: list[Value], types: list[TensorType], attrs: Attrs) -> list[Value]:
        """Emit any op, with the types of its results given."""
        return self.builder.emit_typed(opcode, operands, types, attrs, self.loc)
