"""The plans that a compile considers, as `mochi-compile --explain` prints them."""

import math
from dataclasses import asdict
from typing import Any

from mochi_aot.compiler.explain import Explanation
from mochi_aot.compiler.partition.choose import Candidate
from mochi_aot.tools.commands.text import human_bytes, table

NOTES = (
    "modelled, not measured: seconds and bytes sent of one run of the program, on one device; peak: the most memory",
    "that any of the plan's programs takes, with its weights; why: how the plan's programs together compare in a video",
)


def plan_numbers(explanation: Explanation) -> dict[str, Any]:
    """Return every candidate with its figures, null where the plan cannot work, and what a device has."""
    memory, resident = explanation.memory_bytes, explanation.choice.resident_bytes()
    return {
        "mesh": list(explanation.job.mesh),
        "target": explanation.job.target,
        "memory_bytes": None if math.isinf(memory) else round(memory),
        "resident_bytes": resident,
        "weights_stay": resident <= memory,
        "touched_by_loras": explanation.touched and asdict(explanation.touched),
        "plans": [_numbers(candidate) for candidate in explanation.choice.candidates],
    }


def _numbers(candidate: Candidate) -> dict[str, Any]:
    run = candidate.run
    return {
        "programs": list(candidate.roles),
        "plan": candidate.plan.name,
        "chosen": candidate.is_chosen,
        "run_seconds": run and run.seconds,
        "video_seconds": run and candidate.seconds,
        "sent_bytes": run and run.sent_bytes,
        "peak_bytes": run and run.peak_bytes,
        "weight_bytes": run and run.weight_bytes,
        "why": candidate.verdict,
    }


def plan_report(explanation: Explanation) -> str:
    """Return the same as a table for people."""
    rows = [_row(candidate) for candidate in explanation.choice.candidates]
    lines = [table(["program", "plan", "seconds", "sent", "weights", "peak", "why"], rows), *NOTES]
    numbers = plan_numbers(explanation)
    if numbers["memory_bytes"] is not None:
        needed, there = human_bytes(numbers["resident_bytes"]), human_bytes(numbers["memory_bytes"])
        stay = "stay on a device" if numbers["weights_stay"] else "are loaded anew for each phase"
        lines.append(f"all weights and the largest program besides take {needed} of {there}: they {stay}")
    if (touched := explanation.touched) is not None:
        parameters = f"{touched.parameters} of {touched.of_parameters} parameters"
        share = f"{human_bytes(touched.nbytes)} of {human_bytes(touched.of_nbytes)}"
        lines.append(f"{touched.loras}: changes {parameters}, {share}, which is what --reuse of the base makes again")
    return "\n".join(lines)


def _row(candidate: Candidate) -> list[str]:
    run = candidate.run
    figures = ["", "", "", ""]
    if run is not None:
        figures = [f"{run.seconds:.3g}", *map(human_bytes, (run.sent_bytes, run.weight_bytes, run.peak_bytes))]
    verdict = candidate.verdict.removeprefix(f"plan {candidate.plan.name}: ")
    return [candidate.roles[-1], candidate.plan.name, *figures, verdict]
