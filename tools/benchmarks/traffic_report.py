"""What `mochi-bench traffic` prints and writes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mochi_aot.tools.benchmarks.traffic import OURS, STEPS, THEIRS, ProgramTraffic
from mochi_aot.tools.commands.text import human_bytes, table

NOTES = (
    "sent: bytes that a chip puts on its Ethernet links in one run, passing on included, the mean over all chips",
    "peak: DRAM a chip, modelled for both from the lives of values; mochi-verify measures ours on ttnn's allocators",
    f"{OURS}: ops and bytes are of the lowered ttnn programs",
)
THEIR_NOTES = (
    f"{THEIRS}: modelled from its public sources, by the same trace and partitioner. One run a prompt; weights and",
    "  modulations gathered over the sequence axis at each use; whole activations gathered for the decoder's norms",
    "  where space is cut. Its text encoder is on the host, not counted. Its ops are not fused, nor q, k and v joined,",
    "  and it sends bfloat16. Both: ring attention, tensor-parallel pairs of products, halos",
)


def traffic_numbers(programs: Sequence[ProgramTraffic]) -> dict[str, Any]:
    """Return each program, and for each scheme the bytes that a chip sends in a denoising step and in a video."""
    schemes = list(dict.fromkeys(program.scheme for program in programs))
    step = {scheme: _sent(programs, scheme, ("denoise",)) // STEPS for scheme in schemes}
    video = {scheme: _sent(programs, scheme, None) for scheme in schemes}
    numbers: dict[str, Any] = {"programs": [asdict(program) for program in programs]}
    numbers |= {"steps": STEPS, "step_bytes": step, "video_bytes": video}
    if THEIRS in schemes:
        numbers["step_ratio"] = step[OURS] / step[THEIRS]
        numbers["video_ratio"] = video[OURS] / video[THEIRS]
    return numbers


def _sent(programs: Sequence[ProgramTraffic], scheme: str, roles: tuple[str, ...] | None) -> int:
    counted = (p for p in programs if p.scheme == scheme and (roles is None or p.role in roles))
    return sum(program.runs * program.sent_bytes for program in counted)


def traffic_report(numbers: dict[str, Any]) -> str:
    """Return the same for people."""
    header = ["scheme", "program", "mesh", "plan", "runs a video", "ops", "collectives", "sent", "peak"]
    theirs = "step_ratio" in numbers
    lines = [
        f"{numbers['config']}, {numbers['geometry']}, mesh {numbers['mesh']}, "
        f"{OURS} with weights in {numbers['weights_dtype']} and sending {numbers['links_dtype']}",
        "",
        table(header, [_row(program) for program in numbers["programs"]]),
        "",
        *(_total(name, numbers, key) for name, key in (("step", "step"), (f"video of {STEPS} steps", "video"))),
        "",
        *NOTES,
        *(THEIR_NOTES if theirs else (f"no scheme of {THEIRS}'s is published for this mesh",)),
    ]
    return "\n".join(lines)


def _row(program: dict[str, Any]) -> list[str]:
    scheme = program["scheme"] + (" (modelled)" if program["modelled"] else "")
    mesh = "x".join(map(str, program["mesh"]))
    collectives = str(sum(program["collectives"].values()))
    sizes = [human_bytes(program[key]) for key in ("sent_bytes", "peak_bytes")]
    return [
        scheme,
        program["role"],
        mesh,
        program["plan"],
        str(program["runs"]),
        str(program["ops"]),
        collectives,
        *sizes,
    ]


def _total(name: str, numbers: dict[str, Any], key: str) -> str:
    sent = numbers[f"{key}_bytes"]
    text = f"a {name}: " + ", ".join(f"{scheme} {human_bytes(count)}" for scheme, count in sent.items())
    return text + (f" (modelled): {numbers[f'{key}_ratio']:.2f} of it" if f"{key}_ratio" in numbers else "")
