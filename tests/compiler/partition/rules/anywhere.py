"""Programs whose operands are placed anywhere: what a rule does must not depend on what made them so."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import assume, note
from hypothesis import strategies as st

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Attr, Checkpoint, Program, Value
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.rules import RULES
from mochi_aot.compiler.partition.spmd import propagate
from mochi_aot.compiler.passes.merge_linears import merge_linears
from mochi_aot.compiler.passes.simplify import simplify
from tests.compiler.numbers import REORDERED, assert_same, inputs, parameter
from tests.compiler.partition.legal import Placements, Shape, even_placements, meshes, placements

POISON = 7.0


class _Placed(Partitioner):
    """Places each annotated value as the test says."""

    def __init__(self, program: Program, mesh: Mesh, placed: dict[str, Placements]) -> None:
        super().__init__(program, mesh, Plan("anywhere"))
        self._placed = placed

    def annotated(self, name: str, shape: tuple[int, ...]) -> Placements | None:
        return self._placed[name]


@dataclass
class Anywhere:
    """Builds a program on one device and notes where its operands are to be on the mesh."""

    draw: st.DrawFn
    mesh: Mesh

    def __post_init__(self) -> None:
        self.builder = Builder("p")
        self.placed: dict[str, Placements] = {}

    def put(self, value: Value, where: Placements | None = None) -> Value:
        """`value`, at drawn placements unless they are given."""
        name = f"at{len(self.placed)}"
        self.placed[name] = self.draw(placements(value.type.shape, self.mesh)) if where is None else where
        return self.builder.emit("annotate", [value], {"name": name})

    def input(self, *shape: int, dtype: str = "float32") -> Value:
        name = f"x{len(self.builder.program.inputs)}"
        return self.put(self.builder.input(name, TensorType(shape, dtype), "latent"))

    def param(self, *shape: int, where: Placements | None = None) -> Value:
        name = f"w{len(self.builder.program.params)}"
        return self.put(self.builder.param(name, TensorType(shape, "float32"), Checkpoint(name)), where)

    def even_param(self, *shape: int) -> Value:
        return self.param(*shape, where=self.draw(even_placements(shape, self.mesh)))

    def summands(self, *shape: int) -> Value:
        """A value that is partial if the weight that makes it is cut by columns."""
        contracted = 2 * self.mesh[0] * self.mesh[1]
        x, weight = self.input(*shape[:-1], contracted), self.even_param(shape[-1], contracted)
        return self.builder.emit("linear", [x, weight])

    def any(self, *shape: int) -> Value:
        """An input, a parameter or a sum."""
        makers: list[Callable[..., Value]] = [self.input, self.input, self.param, self.summands]
        return self.draw(st.sampled_from(makers))(*shape)

    def emit(self, opcode: str, operands: list[Value], **attrs: Attr) -> None:
        """The op at hand; its results are outputs."""
        for result in self.builder.emit_many(opcode, operands, attrs, "here.py:1"):
            self.builder.output(f"y{len(self.builder.program.outputs)}", result)

    def size(self, low: int = 1, high: int = 6) -> int:
        return self.draw(st.integers(low, high))

    def shape(self, min_rank: int = 1, max_rank: int = 3) -> Shape:
        return tuple(self.size() for _ in range(self.draw(st.integers(min_rank, max_rank))))

    def dim(self, shape: Shape) -> int:
        return self.draw(st.integers(0, len(shape) - 1))


Make = Callable[[Anywhere], None]


@st.composite
def cases(draw: st.DrawFn, make: Make) -> Anywhere:
    case = Anywhere(draw, draw(meshes))
    make(case)
    return case


def check(case: Anywhere) -> None:
    """On the mesh, whatever padding holds, the results are those of one device. A plan may be refused."""
    source = case.builder.program
    verify(source)
    note(f"{to_text(source)}\n{case.placed}")
    try:
        program = propagate(_Placed(source, case.mesh, case.placed), RULES)
    except PlanError as error:
        note(str(error))
        assume(False)
    verify(program)
    note(to_text(program))
    arrays = inputs(source)
    expected = run(source, arrays, parameter)
    assert_same(run(program, arrays, parameter, poison=POISON), expected, REORDERED)
    program = simplify(merge_linears(simplify(program)))
    verify(program)
    assert_same(run(program, arrays, parameter, poison=POISON), expected, REORDERED)
