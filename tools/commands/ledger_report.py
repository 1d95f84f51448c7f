"""What a run took, for people."""

from typing import Any

from mochi_aot.tools.commands.text import human_bytes, table


def ledger_report(numbers: dict[str, Any]) -> str:
    """Return a table of `Ledger.numbers`. Weights are read beside the other rows; the wait for them is within these."""
    weights, steps = numbers["weights"], numbers["steps"]
    rows = [[name, f"{seconds:.2f}", ""] for name, seconds in numbers["seconds"].items()]
    at = [index for index, row in enumerate(rows) if row[0] == "denoise"]
    if at and steps["all"]:
        kinds = ("first", "median") if len(steps["all"]) > 1 else ("first",)
        rows[at[0] + 1 : at[0] + 1] = [[f"  {kind} step", f"{steps[kind]:.2f}", ""] for kind in kinds]
    rows.append(["weights read", f"{weights['seconds']:.2f}", _reading(weights)])
    rows.append(["  waited for", f"{weights['waited']:.2f}", ""])
    rows.append(["whole process", f"{numbers['total']:.2f}", ""])
    return table(["what", "seconds", ""], rows)


def _reading(weights: dict[str, float]) -> str:
    rate = f"{human_bytes(weights['bytes'])}, {human_bytes(weights['bytes_per_second'])}/s"
    disk = f"{human_bytes(weights['from_disk'])} from disk"
    if "limit" not in weights:
        return f"{rate}, {disk}"
    return f"{rate}, {disk} at {weights['share_of_limit']:.2f} of its limit, {human_bytes(weights['limit'])}/s"
