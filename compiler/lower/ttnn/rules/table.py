"""The table of rules."""

from collections.abc import Callable

from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer

Rule = Callable[[Lowerer, Op], None]
RULES: dict[str, Rule] = {}


def rule(*opcodes: str) -> Callable[[Rule], Rule]:
    """Registers a rule, which sets `lowerer.tensors` of the op's results."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(opcodes, function))
        return function

    return register
