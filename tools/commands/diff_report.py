"""What `mochi-bundle diff` prints."""

from dataclasses import asdict
from typing import Any

from mochi_aot.tools.bundle.diff import Difference, WeightChanges
from mochi_aot.tools.commands.text import human_bytes

MAX_NAMES = 20  # of weights that the report lists of a kind; --json has all


def diff_numbers(difference: Difference) -> dict[str, Any]:
    """Return the difference as JSON says it."""
    return {"equal": difference.is_empty, **asdict(difference)}


def diff_report(difference: Difference) -> str:
    """Return the difference for people, as `diff` has it: - is of A and + of B."""
    if difference.is_empty:
        return f"the same bundle, {difference.ids[0]}"
    lines = [f"- bundle {difference.ids[0]}", f"+ bundle {difference.ids[1]}"]
    for change in difference.fields:
        lines += [f"- {change.field} {change.before}"] if change.before is not None else []
        lines += [f"+ {change.field} {change.after}"] if change.after is not None else []
    lines += _weights(difference.weights)
    for program in difference.programs:
        before, after = program.plans
        plan = f"plan {before}" if before == after else f"plan {before} -> {after}"
        lines += ["", f"program {program.role} of {program.geometry}, {plan}", *program.lines]
    return "\n".join(lines)


def _weights(weights: WeightChanges) -> list[str]:
    kinds = {
        "moved": weights.moved,
        "changed": weights.changed,
        "added": weights.added,
        "missing": weights.missing,
    }
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items())
    moving = human_bytes(weights.bytes_to_move)
    lines = [f"weights: {weights.same} the same, {counts}; a host with the first bundle lacks {moving} of the second"]
    for kind, names in kinds.items():
        lines += [f"  {kind} {name}" for name in names[:MAX_NAMES]]
        if len(names) > MAX_NAMES:
            lines.append(f"  {kind} {len(names) - MAX_NAMES} more; --json lists them")
    return lines
