"""The torch target: instructions are the IR's ops with the same names and attributes."""

import itertools
import math
from collections.abc import Iterator
from functools import partial

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.artifacts.roles import ENCODE
from mochi_aot.compiler.ir.last_uses import dead_after
from mochi_aot.compiler.ir.program import Op, Param, Program, Value
from mochi_aot.compiler.ir.types import Shard, TensorType
from mochi_aot.compiler.lower.fit import decoder_in_strips, encoder_in_strips
from mochi_aot.compiler.lower.memory import Arena
from mochi_aot.compiler.lower.shards import WINDOW_BYTES, ShardedWeight
from mochi_aot.compiler.lower.target import Change, Checked, FormedParam, WeightProgress, roles
from mochi_aot.compiler.lower.torch_seconds import seconds
from mochi_aot.compiler.lower.weight_belt import WeightBelt
from mochi_aot.compiler.lower.weights import KnownSource, weight_name
from mochi_aot.compiler.partition.choose import Estimate
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.float8 import MULTIPLE, in_float8
from mochi_aot.compiler.partition.liveness import peak_bytes
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import FAMILIES

# Of the largest value of a strip of a video; three are in memory at once. cuDNN's and torch's kernels count a tensor's
# elements in 31 bits where they are fast, and a full video's largest value has 8.5e9 of them.
STRIP_BYTES = 2 << 30


class TorchTarget:
    """Weights are shards in large files, in the order of first use."""

    families = FAMILIES

    def __init__(self, weights_dtype: str = "bfloat16") -> None:
        """`weights_dtype` is float8, of the matrices of the transformer's blocks; or else they are as programs have
        them."""
        self._float8 = weights_dtype == "float8"
        self._params: dict[str, dict[str, Param]] = {role: {} for role in roles(self.families)}

    def fitted(self, program: Program, mesh: Mesh, plan: Plan) -> Program:
        """See Target. Large videos are worked on in strips."""
        in_strips = {"decode": decoder_in_strips, ENCODE: encoder_in_strips}.get(program.name)
        return program if in_strips is None else in_strips(program, mesh, plan, STRIP_BYTES)

    def narrowing(self, role: str) -> Change | None:
        """See Target. What is in float8 is in the denoising step alone, which nearly all time and memory go to."""
        return in_float8 if self._float8 and role == "denoise" else None

    def estimate(self, program: Program, plan: str, cost: Cost) -> Estimate:
        """See Target."""
        return Estimate(seconds(cost), cost.collective_bytes, peak_bytes(program), cost.weight_bytes)

    def memory_bytes(self, mesh: Mesh) -> float:
        """See Target. Hosts have room."""
        return math.inf

    def lowered(self, program: Program, plan: str, cost: Cost) -> schema.Program:
        """See Target."""
        self._params[program.name].update((weight_name(param), param) for param in params_in_use_order(program))
        return lower(program, plan, cost)

    def check_programs(
        self,
        writer: BundleWriter,
        geometries: list[schema.Geometry],
        programs: dict[int, schema.Program],
        mesh: Mesh,
    ) -> Checked:
        """See Target. There is nothing to build ahead of time. Raise PlanError for float8 that nothing is in."""
        types = {param.value.type.dtype for param in self._all_params().values()}
        if self._float8 and "float8" not in types:
            raise PlanError(
                f"weights-dtype float8: of no matrix of the transformer's blocks a device of {mesh[0]}x{mesh[1]} holds "
                f"a multiple of {MULTIPLE} rows and columns: take another plan, or fewer devices, or bfloat16"
            )
        return Checked(geometries)

    def add_weights(self, writer: BundleWriter, source: KnownSource, mesh: Mesh, progress: WeightProgress) -> int:
        """See Target."""
        params = self._all_params()
        sizes = [param.value.type.local_nbytes for param in params.values()]
        arena = Arena()
        with WeightBelt(writer, WINDOW_BYTES) as belt:
            for param, done in zip(params.values(), itertools.accumulate(sizes), strict=True):
                belt.put(ShardedWeight(writer, param, source, mesh, arena), partial(progress, done, sum(sizes)))
        return sum(sizes)

    def formed_params(self) -> Iterator[FormedParam]:
        """See Target."""
        for name, param in self._all_params().items():
            yield FormedParam(name, param, "plain")

    def _all_params(self) -> dict[str, Param]:
        """Return all weights by name, in the order of first use."""
        return {name: param for by_name in self._params.values() for name, param in by_name.items()}


def params_in_use_order(program: Program) -> Iterator[Param]:
    """Yield the program's parameters by the first op that reads them."""
    params = {param.value: param for param in program.params}
    for op in program.ops:
        for operand in op.operands:
            if operand in params:
                yield params.pop(operand)
    yield from params.values()


def lower(program: Program, plan: str, cost: Cost) -> schema.Program:
    """Return the instruction list of a partitioned program; a value is freed at its last use."""
    assert program.mesh is not None
    ids = {value: i for i, value in enumerate(program.values())}
    kept = {output.value for output in program.outputs} | {param.value for param in program.params}
    dead = dead_after([op.values for op in program.ops], kept)
    return schema.Program(
        name=program.name,
        mesh=list(program.mesh),
        plan=plan,
        inputs=[schema.ProgramInput(i.value.name, ids[i.value], spec(i.value.type), i.rate) for i in program.inputs],
        weights=[_program_weight(p, ids[p.value]) for p in program.params],
        outputs=[schema.ProgramOutput(o.name, ids[o.value], spec(o.value.type)) for o in program.outputs],
        instructions=[_instruction(op, ids, dying) for op, dying in zip(program.ops, dead, strict=True)],
        stats=schema.ProgramStats(cost.flops, cost.weight_bytes, cost.collective_bytes, cost.collectives),
    )


def _program_weight(param: Param, value: int) -> schema.ProgramWeight:
    type = param.value.type
    return schema.ProgramWeight(weight_name(param), value, type.dtype, list(type.local_shape))


def _instruction(op: Op, ids: dict[Value, int], dead: list[Value]) -> schema.Instruction:
    return schema.Instruction(
        op=op.opcode,
        operands=[ids[v] for v in op.operands],
        results=[ids[v] for v in op.results],
        attrs=dict(op.attrs),  # type: ignore[arg-type]  # dict is invariant; every Attr is one of the schema's
        free=sorted(ids[v] for v in dead),
        loc=op.loc,
    )


def spec(type: TensorType) -> schema.TensorSpec:
    """Return a type as the bundle writes it."""
    placements = [schema.Placement(p.dim, p.chunk) if isinstance(p, Shard) else None for p in type.placements]
    return schema.TensorSpec(type.dtype, list(type.shape), list(type.local_shape), placements)
