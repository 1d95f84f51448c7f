"""How much memory a partitioned program takes on a device, from the lives of its values."""

from mochi_aot.compiler.ir.last_uses import dead_after
from mochi_aot.compiler.ir.program import Op, Program, Value

# Results that need not be other bytes than their operand.
VIEWS = frozenset(("reshape",))


def peak_bytes(program: Program) -> int:
    """Return the most bytes alive on a device at once: see `bytes_over_time`."""
    return max(bytes_over_time(program))


def bytes_over_time(program: Program) -> list[int]:
    """Return the bytes alive on a device before the first op, then those during each: parameters and inputs all the
    time, another value from the op that makes it until after the last that reads it.

    Modelled: nothing is fused, padded to tiles or fragmented, and ops need no scratch.
    """
    resident = {item.value for item in program.inputs} | {param.value for param in program.params}
    held = sum(value.type.local_nbytes for value in resident)
    dead = _deaths(program, resident)
    alive = [held]
    for index, op in enumerate(program.ops):
        if not _is_view(op):
            held += sum(result.type.local_nbytes for result in op.results)
        alive.append(held)
        held -= sum(value.type.local_nbytes for value in dead[index])
    return alive


def _is_view(op: Op) -> bool:
    return op.opcode in VIEWS


def _deaths(program: Program, resident: set[Value]) -> list[list[Value]]:
    """Return for each op the values, views left out, whose bytes nothing needs after it."""
    owner: dict[Value, Value] = {}
    steps: list[list[Value]] = []
    for op in program.ops:
        for result in op.results:
            owner[result] = owner.get(op.operands[0], op.operands[0]) if _is_view(op) else result
        steps.append([owner.get(value, value) for value in op.values])
    return dead_after(steps, resident | {owner.get(output.value, output.value) for output in program.outputs})
