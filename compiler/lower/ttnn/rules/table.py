"""The table of rules: for each opcode one for all its ops, and others for some of them."""

from collections.abc import Callable

from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer

Rule = Callable[[Lowerer, Op], None]
Applies = Callable[[Op], bool]
_GENERAL: dict[str, Rule] = {}
_SPECIAL: dict[str, list[tuple[Applies, Rule]]] = {}


def rule(*opcodes: str) -> Callable[[Rule], Rule]:
    """Register a rule, which sets `lowerer.tensors` of the op's results."""

    def register(function: Rule) -> Rule:
        _GENERAL.update(dict.fromkeys(opcodes, function))
        return function

    return register


def rule_where(opcode: str, applies: Applies) -> Callable[[Rule], Rule]:
    """Register a rule for the ops that `applies` is true of, in the place of the opcode's own. No two may apply to one
    op, so that the order in which modules register their rules does not matter."""

    def register(function: Rule) -> Rule:
        _SPECIAL.setdefault(opcode, []).append((applies, function))
        return function

    return register


def rule_for(op: Op) -> Rule | None:
    """Return the rule of an op, or None if it has no lowering. Raise ValueError where two special rules apply."""
    special = [function for applies, function in _SPECIAL.get(op.opcode, []) if applies(op)]
    if len(special) > 1:
        names = " and ".join(function.__name__ for function in special)
        raise ValueError(f"{op.opcode} at {op.loc}: the rules {names} both apply")
    return special[0] if special else _GENERAL.get(op.opcode)
