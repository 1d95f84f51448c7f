"""Sections of the page about programs: what flows between them, what each does and costs, where the time goes."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mochi_aot.artifacts.roles import LATENT, PROMPT, ROLES, STEP
from mochi_aot.artifacts.schema import Program, TensorSpec
from mochi_aot.artifacts.tiles import device_bytes
from mochi_aot.tools.commands.text import human_bytes, human_count
from mochi_aot.tools.page.charts import bar, memory_chart
from mochi_aot.tools.page.contents import Contents, Sized
from mochi_aot.tools.page.markup import Content, Markup, joined, section, table, tag
from mochi_aot.tools.page.modelled import Modelled

if TYPE_CHECKING:
    from mochi_aot.compiler.explain import Explanation
    from mochi_aot.compiler.rebuilt import Rebuilt

_OFTEN = {PROMPT: "once a prompt", STEP: "once a video, all steps together", LATENT: "once a video"}
MAX_OPS = 40  # that a program's table lists


def often(role: str) -> str:
    """Return how often a program runs, in words."""
    special = {"denoise": "once a step", "encode": "apart from the others: once, of a video to begin with"}
    return special.get(role) or _OFTEN[ROLES[role].rate]


def seconds_text(seconds: float) -> str:
    """Return seconds with three significant digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:
            return f"{seconds / size:.3g} {unit}" if seconds < 999.5 * size else f"{seconds:,.0f} s"
    return f"{seconds * 1e6:.3g} µs"


def facts(pairs: list[tuple[str, Content]]) -> Markup:
    """Return numbers with what they are of, side by side."""
    boxes = (tag("div", tag("b", value), tag("span", name), class_="fact") for name, value in pairs)
    return tag("div", *boxes, class_="facts")


def pipeline(sized: Sized) -> Markup:
    """Return the programs in the order of a video, with what each takes and from where."""
    made: dict[str, str] = {}
    items = []
    for role, program in sized.programs.items():
        heading = tag(
            "h3", role, tag("span", f"plan {program.plan}", class_="tag"), tag("span", often(role), class_="soft")
        )
        lines = [*_inputs(program, made, role), _line("out", _specs("", {o.name: o.spec for o in program.outputs}))]
        items.append(tag("li", heading, tag("ul", *lines)))
        made.update({output.name: role for output in program.outputs})
    note = f"Programs of {sized.name} in the order of a video. Bytes are of one device."
    return section("Pipeline", "pipeline", tag("ol", *items, class_="flow"), note=note)


def _inputs(program: Program, made: Mapping[str, str], role: str) -> list[Markup]:
    given = ROLES[role].inputs
    groups: dict[str, dict[str, TensorSpec]] = {}
    for item in program.inputs:
        source = "the host" if item.name in given else made.get(item.name, "an earlier program")
        if role == "denoise" and item.name == "latents":
            source = "the host, then itself, step by step"
        if role == "decode" and item.name == "latents" and "denoise" in made.values():
            source = "denoise, after the last step"
        groups.setdefault(source, {})[item.name] = item.spec
    return [_line("in", _specs(f"from {source}: ", specs)) for source, specs in groups.items()]


def _line(direction: str, content: Markup) -> Markup:
    return tag("li", tag("span", direction), tag("span", content))


def _specs(before: str, specs: Mapping[str, TensorSpec]) -> Markup:
    """Return names and shapes of a few tensors, or the number of many, with their bytes on a device."""
    total = sum(device_bytes(s.dtype, s.local_shape, s.layout) for s in specs.values())
    if len(specs) > 4:
        text: Content = f"{len(specs)} tensors"
    else:
        text = joined(_spec(name, spec, last=i == len(specs) - 1) for i, (name, spec) in enumerate(specs.items()))
    return joined([before, text, tag("span", f" · {human_bytes(round(total))}", class_="soft")])


def _spec(name: str, spec: TensorSpec, last: bool) -> Markup:
    shape = "x".join(map(str, spec.shape)) or "scalar"
    return joined([tag("code", name), f" {shape} {spec.dtype}" + ("" if last else ", ")])


def seconds_section(contents: Contents, modelled: Modelled) -> Markup:
    """Return the modelled seconds of a video by program, or why there are none."""
    if not modelled.programs:
        note = "Modelled seconds, memory over time and bytes by kind of op need the compiler: " + "; ".join(
            modelled.reasons
        )
        return section("Where the time goes", "time", tag("p", note, class_="note warn"))
    video = {
        role: made.seconds * modelled.runs.get(role, 1) for role, made in modelled.programs.items() if role != "encode"
    }
    total, most = sum(video.values()) or 1.0, max(video.values(), default=0.0) or 1.0
    rows: list[list[Content]] = [
        [
            role,
            contents.sizes[0].programs[role].plan,
            seconds_text(modelled.programs[role].seconds),
            str(modelled.runs.get(role, 1)),
            seconds_text(seconds),
            bar(seconds / most, f"{100 * seconds / total:.1f} %"),
        ]
        for role, seconds in video.items()
    ]
    rows.append(["all", "", "", "", seconds_text(sum(video.values())), ""])
    made = table(["program", "plan", "a run", "runs a video", "a video", "share"], rows, (2, 3, 4))
    reasons = [tag("p", reason, class_="note warn") for reason in modelled.reasons]
    note = "Modelled by the compiler's table of constants, not measured: one device, ops one after another. "
    if contents.manifest.target == "torch":
        note += "For torch the figures are nominal; they order plans and say nothing about a host."
    return section("Where the time goes", "time", made, *reasons, note=note)


def programs_section(sized: Sized, modelled: Modelled, first: bool) -> Markup:
    """Return every program of a geometry: its numbers, memory, kinds of op, collectives and plans considered."""
    made = modelled if first else Modelled()
    articles = [
        _article(role, program, sized.geometry.dram_peaks.get(role), made.programs.get(role), made.explanation)
        for role, program in sized.programs.items()
    ]
    note = "One run of a program on one device. Collectives are ops in which devices send each other data."
    return section(f"Programs, {sized.name}", f"programs-{sized.name}", *articles, note=note)


def _article(
    role: str, program: Program, peak: int | None, made: "Rebuilt | None", explanation: "Explanation | None"
) -> Markup:
    stats = program.stats
    numbers: list[tuple[str, Content]] = [
        ("instructions", f"{len(program.instructions):,}"),
        ("compute", human_count(stats.flops, "FLOP")),
        ("weights", human_bytes(stats.weight_bytes)),
        ("sent", human_bytes(stats.collective_bytes)),
    ]
    if peak is not None:
        numbers.append(("peak of a dry run", human_bytes(peak)))
    if made is not None:
        numbers += [("modelled peak", human_bytes(max(made.memory))), ("modelled time", seconds_text(made.seconds))]
    heading = tag(
        "h3", role, tag("span", f"plan {program.plan}", class_="tag"), tag("span", often(role), class_="soft")
    )
    parts: list[Markup] = [heading, facts(numbers)]
    if made is not None:
        parts += [_memory(made, stats.weight_bytes, peak), tag("h4", "By kind of op"), _kinds(made)]
    parts += _collectives(program)
    parts.append(tag("details", tag("summary", "Ops by name"), _ops(program)))
    if explanation is not None:
        parts += _plans(role, program.plan, explanation)
    return tag("article", *parts)


def _memory(made: "Rebuilt", weights: int, peak: int | None) -> Markup:
    keys = [("weights", "weights"), ("area", "values, inputs and buffers")]
    legend = [tag("span", _key(name), text, class_="key") for name, text in keys]
    if peak is not None:
        line = tag("line", x1=0, x2=12, y1=6, y2=6, class_="measured")
        legend.append(tag("span", tag("svg", line, viewBox="0 0 12 12"), "most that a dry run took", class_="key"))
    chart = memory_chart(made.memory, weights, peak)
    return joined([tag("h4", "Memory of a device while it runs"), chart, tag("p", *legend, class_="legend")])


def _key(class_: str) -> Markup:
    return tag("svg", tag("rect", width=12, height=12, rx=2, class_=class_), viewBox="0 0 12 12")


def _kinds(made: "Rebuilt") -> Markup:
    most, total = max((kind.seconds for kind in made.kinds), default=0.0) or 1.0, made.seconds or 1.0
    rows: list[list[Content]] = [
        [
            kind.kind,
            f"{kind.ops:,}",
            seconds_text(kind.seconds) if kind.seconds else "0",
            bar(kind.seconds / most, f"{100 * kind.seconds / total:.1f} %"),
            human_bytes(kind.moved_bytes),
            human_bytes(kind.sent_bytes),
        ]
        for kind in made.kinds
    ]
    return table(["kind", "ops", "modelled time", "share", "read and written", "sent"], rows, (1, 2, 4, 5))


def _collectives(program: Program) -> list[Markup]:
    if not program.stats.collectives:
        return [tag("p", "No collectives: devices do not talk to each other.", class_="note")]
    rows = sorted(program.stats.collectives.items(), key=lambda item: (-item[1], item[0]))
    listed = joined(_between([f"{op} x {count}" for op, count in rows]))
    sent = human_bytes(program.stats.collective_bytes)
    return [tag("h4", "Collectives"), tag("p", listed, f"; {sent} sent by a device")]


def _between(items: list[str]) -> list[str]:
    return [item if i == 0 else f", {item}" for i, item in enumerate(items)]


def _ops(program: Program) -> Markup:
    counts = Counter(instruction.op for instruction in program.instructions).most_common()
    most = max((count for _, count in counts), default=1)
    rows = [[tag("code", op), bar(count / most, f"{count:,}")] for op, count in counts[:MAX_OPS]]
    rest = [tag("p", f"and {len(counts) - MAX_OPS} more", class_="note")] if len(counts) > MAX_OPS else []
    return joined([table(["op", "instructions"], rows), *rest])


def _plans(role: str, plan: str, explanation: "Explanation") -> list[Markup]:
    """Return the plans that a compile considers, at the program that they are told for."""
    rows: list[list[Content]] = []
    for candidate in explanation.choice.candidates:
        if candidate.roles[-1] != role:
            continue
        run = candidate.run
        figures = ["", "", "", ""]
        if run is not None:
            figures = [seconds_text(run.seconds), *map(human_bytes, (run.sent_bytes, run.weight_bytes, run.peak_bytes))]
        why = candidate.verdict.removeprefix(f"plan {candidate.plan.name}: ")
        mine = tag("span", candidate.plan.name, class_="tag") if candidate.plan.name == plan else candidate.plan.name
        rows.append([mine, *figures, tag("span", why, class_="wide")])
    if not rows:
        return []
    roles = ", ".join(next(c.roles for c in explanation.choice.candidates if c.roles[-1] == role))
    memory = "" if math.isinf(explanation.memory_bytes) else f"; a device has {human_bytes(explanation.memory_bytes)}"
    header = ["plan", "modelled time", "sent", "weights", "peak", "why"]
    note = tag("p", f"For {roles} together; the bundle's plan is marked{memory}.", class_="note")
    return [tag("h4", "Plans that a compile considers"), note, table(header, rows, (1, 2, 3, 4))]
