"""What `mochi-bench model` prints and writes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mochi_aot.compiler.lower.ttnn.chip_constants import CONSTANTS, DEVICE_FACTOR, THEIR_HOST, machine_of
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.tools.benchmarks.model import (
    PUBLISHED,
    STEP,
    THEIR_FORWARDS,
    THEIR_REST,
    THEIR_STEPS,
    ProgramSeconds,
)
from mochi_aot.tools.benchmarks.traffic import OURS, STEPS, THEIRS
from mochi_aot.tools.commands.text import table

NOTES = (
    "modelled: nothing here was measured, since no chip was at hand. Ops follow one another; only ring attention",
    "  computes while its keys and values travel. Constants are published: of data sheets; estimated: of an earlier",
    "  estimate of the step, which gives no source for each; fitted: to that estimate's sums or to TT-DiT's seconds;",
    "  measured: here, on the host; assumed: no figure is known",
    f"{OURS}: the lowered instructions. {THEIRS}: the same model under one prompt, two forwards a step, partitioned as",
    "  its public sources do and lowered by our rules; its weights gathered at each use, its chunks of attention, its",
    "  norms on a share of the channels. Patches, guidance and Euler steps are on its host, and in the host's time",
    f"on a machine: the model times {DEVICE_FACTOR.value:g}, and {THEIR_HOST.value:g} s of host for each of {THEIRS}'s",
    "  forwards, which together give its published seconds. Ours is a guess by the same factor, without a host's time",
)


def model_numbers(mesh: Mesh, ours: Sequence[ProgramSeconds], theirs: ProgramSeconds | None) -> dict[str, Any]:
    """Return each program, the seconds of a step and of a video, and the constants that they come from."""
    (step,) = (program.seconds for program in ours if program.role == STEP)
    steps = {OURS: step}
    machine = {OURS: {"step": step * DEVICE_FACTOR.value, "video": _video(ours, THEIR_STEPS) * DEVICE_FACTOR.value}}
    numbers: dict[str, Any] = {
        "programs": [{**asdict(program), "seconds": program.seconds} for program in (*ours, *_known(theirs))],
        "chip": asdict(machine_of(mesh)),
        "step_seconds": steps,
        "video_seconds": {str(count): _video(ours, count) for count in (STEPS, THEIR_STEPS)},
        "on_a_machine": machine,
        "constants": {name: asdict(constant) for name, constant in CONSTANTS.items()},
    }
    if theirs is not None:
        steps[THEIRS] = THEIR_FORWARDS * theirs.seconds
        on_machine = THEIR_FORWARDS * (theirs.seconds * DEVICE_FACTOR.value + THEIR_HOST.value)
        machine[THEIRS] = {"step": on_machine, "video": THEIR_STEPS * on_machine + THEIR_REST[mesh]}
        numbers["published_video_seconds"] = PUBLISHED[mesh]
        numbers["step_ratio"] = steps[OURS] / steps[THEIRS]
    return numbers


def _known(theirs: ProgramSeconds | None) -> list[ProgramSeconds]:
    return [] if theirs is None else [theirs]


def _video(programs: Sequence[ProgramSeconds], steps: int) -> float:
    return sum((steps if program.role == STEP else program.runs) * program.seconds for program in programs)


def model_report(numbers: dict[str, Any]) -> str:
    """Return the same for people."""
    lines = [
        f"{numbers['config']}, {numbers['geometry']}, mesh {numbers['mesh']}, "
        f"{OURS} with weights in {numbers['weights_dtype']} and sending {numbers['links_dtype']}",
        "{name}: {cores} cores a chip, {links} link(s) to a neighbour".format(**_chip(numbers["chip"])),
        "",
        *_programs(numbers["programs"]),
        "",
        *_step_by_kind(numbers["programs"]),
        "",
        *_totals(numbers),
        "",
        *_constants(numbers["constants"]),
        "",
        *NOTES,
    ]
    if "step_ratio" not in numbers:
        lines.append(f"no scheme of {THEIRS}'s is published for this mesh")
    return "\n".join(lines)


def _chip(chip: dict[str, Any]) -> dict[str, Any]:
    columns, rows = chip["grid"]
    return {"name": chip["name"], "cores": columns * rows, "links": chip["links"]}


def _programs(programs: list[dict[str, Any]]) -> list[str]:
    rows = [[p["scheme"], p["role"], p["plan"], str(p["ops"]), str(p["runs"]), f"{p['seconds']:.3f}"] for p in programs]
    return [table(["scheme", "program", "plan", "ops", "runs a video", "modelled s a run"], rows)]


def _step_by_kind(programs: list[dict[str, Any]]) -> list[str]:
    """Milliseconds of a guided step."""
    steps = {p["scheme"]: p for p in programs if p["role"] == STEP}
    forwards = {OURS: 1, THEIRS: THEIR_FORWARDS}
    kinds = list(dict.fromkeys(kind for p in steps.values() for kind in p["by_kind"]))
    kinds.sort(key=lambda kind: -steps[OURS]["by_kind"].get(kind, 0.0))
    cells = {s: {k: 1000 * forwards[s] * p["by_kind"].get(k, 0.0) for k in kinds} for s, p in steps.items()}
    rows = [[str(kind), *(f"{cells[s][kind]:.0f}" for s in steps)] for kind in kinds]
    rows.append(["total", *(f"{sum(cells[s].values()):.0f}" for s in steps)])
    return [table(["modelled ms a guided step", *steps], rows)]


def _totals(numbers: dict[str, Any]) -> list[str]:
    step, video, machine = numbers["step_seconds"], numbers["video_seconds"], numbers["on_a_machine"]
    lines = [
        "a guided step, modelled: " + ", ".join(f"{scheme} {seconds:.2f} s" for scheme, seconds in step.items()),
        f"a video, modelled, {OURS}: " + ", ".join(f"{seconds:.0f} s in {n} steps" for n, seconds in video.items()),
        f"on a machine, {OURS}: {machine[OURS]['step']:.1f} s a step, {machine[OURS]['video']:.0f} s in "
        f"{THEIR_STEPS} steps",
    ]
    if "step_ratio" in numbers:
        lines[0] += f": {numbers['step_ratio']:.2f} of it"
        lines.append(
            f"on a machine, {THEIRS}: {machine[THEIRS]['step']:.1f} s a step, {machine[THEIRS]['video']:.0f} s in "
            f"{THEIR_STEPS} steps, published {numbers['published_video_seconds']:.0f} s"
        )
    return lines


def _constants(constants: dict[str, dict[str, Any]]) -> list[str]:
    rows = [[n, f"{c['value']:g} {c['unit']}", str(c["origin"]), c["meaning"]] for n, c in constants.items()]
    return [table(["constant", "value", "source", "of what"], rows)]
