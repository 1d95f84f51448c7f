"""Dead code elimination."""

from mochi_aot.compiler.ir.program import Op, Program, Value


def eliminate_dead_code(program: Program) -> Program:
    """Drop ops and params that no output depends on. Inputs stay: they are the program's interface."""
    live: set[Value] = {output.value for output in program.outputs}
    kept: list[Op] = []
    for op in reversed(program.ops):
        if any(result in live for result in op.results):
            live.update(op.operands)
            kept.append(op)
    params = [param for param in program.params if param.value in live]
    return Program(program.name, program.inputs, params, kept[::-1], program.outputs, program.mesh)
