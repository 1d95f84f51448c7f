"""Walks a program in order and lets each op's rule place it; collectives appear where placements disagree."""

from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.rules import RULES
from mochi_aot.compiler.passes.dce import eliminate_dead_code


def partition(program: Program, mesh: Mesh, plan: Plan) -> Program:
    """The SPMD form of `program` for `mesh` under `plan`.

    Inputs are whole on every device. Raises PlanError, naming the op's place in the reference, where the plan cannot
    work.
    """
    return propagate(Partitioner(program, mesh, plan))


def propagate(partitioner: Partitioner) -> Program:
    """The program that the rules make of the partitioner's source. Raises PlanError as `partition` does."""
    partitioner.begin()
    for op in partitioner.source.ops:
        partitioner.loc = op.loc
        results = RULES[op.opcode](partitioner, op, partitioner.operands(op))
        partitioner.values.update(zip(op.results, results, strict=True))
    return eliminate_dead_code(partitioner.finish())
