"""Removes ops that do nothing and computes equal expressions once."""

from mochi_aot.compiler.ir.builder import Builder, attrs_key, copy_signature
from mochi_aot.compiler.ir.ops import ints
from mochi_aot.compiler.ir.program import Op, Program, Value
from mochi_aot.compiler.passes.dce import eliminate_dead_code


def is_identity(op: Op) -> bool:
    """Return whether `op` returns its only operand unchanged."""
    if op.opcode in ("reshape", "expand", "cast", "slice", "concat"):
        return len(op.operands) == 1 and op.operands[0].type == op.result.type
    if op.opcode == "permute":
        return ints(op.attrs["dims"]) == list(range(len(op.result.type.shape)))
    return False


def simplify(program: Program) -> Program:
    """Forward identities, fold a reshape of a reshape and reuse equal ops, in one sweep; then drop what is dead."""
    builder = Builder(program.name, program.mesh)
    values = copy_signature(program, builder)
    seen: dict[object, list[Value]] = {}
    made_by: dict[Value, Op] = {}
    for op in program.ops:
        operands = [values[v] for v in op.operands]
        if op.opcode == "reshape" and (source := made_by.get(operands[0])) and source.opcode == "reshape":
            operands = source.operands
        candidate = Op(op.opcode, operands, op.results, op.attrs, op.loc)
        if is_identity(candidate):
            values[op.result] = operands[0]
            continue
        # Types too: on a mesh, attributes are local and do not tell values of different lengths apart.
        types = tuple(value.type for value in op.results)
        key = (op.opcode, tuple(operands), attrs_key(op.attrs), types)
        if key not in seen:
            seen[key] = builder.emit_typed(op.opcode, operands, types, op.attrs, op.loc)
            made_by.update(dict.fromkeys(seen[key], builder.program.ops[-1]))
        values.update(zip(op.results, seen[key], strict=True))
    for output in program.outputs:
        builder.output(output.name, values[output.value])
    return eliminate_dead_code(builder.program)
