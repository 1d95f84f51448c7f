"""Walks a program in order and lets each op's rule place it; collectives appear where placements disagree."""

from collections.abc import Mapping

from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.rules import RULES
from mochi_aot.compiler.partition.rules.table import Rule
from mochi_aot.compiler.passes.dce import eliminate_dead_code


def partition(program: Program, mesh: Mesh, plan: Plan) -> Program:
    """Return the SPMD form of `program` for `mesh` under `plan`.

    Inputs are whole on every device. Raises PlanError, naming the op's place in the reference, where the plan cannot
    work.
    """
    return propagate(Partitioner(program, mesh, plan), RULES)


def propagate(partitioner: Partitioner, rules: Mapping[str, Rule]) -> Program:
    """Return the program that these rules, by opcode, make of the partitioner's source. Raises PlanError."""
    partitioner.begin()
    for op in partitioner.source.ops:
        partitioner.loc = op.loc
        results = rules[op.opcode](partitioner, op, partitioner.operands(op))
        partitioner.values.update(zip(op.results, results, strict=True))
    return eliminate_dead_code(partitioner.finish())
