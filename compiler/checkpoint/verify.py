"""Whether the tensors that are there are the tensors of the model: all differences at once."""

from collections.abc import Iterable, Mapping

from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.stored_dtypes import STORED
from mochi_aot.compiler.checkpoint.table import Source
from mochi_aot.compiler.checkpoint.text_encoder import COMPONENT as TEXT
from mochi_aot.compiler.checkpoint.text_encoder import is_ignored

SHOWN = 10  # of each kind; the rest are counted


def locate(sources: Iterable[Source], components: Mapping[str, Component], title: str) -> dict[Source, str]:
    """Return the key that each source has in its component: its own, or the alias where only that is there.

    Raise one CheckpointError, starting with `title`, that lists every missing, unexpected and misshapen tensor and
    every one of a dtype that weights do not have.
    """
    shapes = {name: component.shapes() for name, component in components.items()}
    unexpected = {
        (name, key) for name, keys in shapes.items() for key in keys if not (name == TEXT and is_ignored(key))
    }
    problems: dict[str, list[str]] = {"missing": [], "unexpected": [], "misshapen": [], "of an unsupported dtype": []}
    keys: dict[Source, str] = {}
    for source in sources:
        there = [key for key in (source.key, source.alias) if key in shapes[source.component]]
        if not there:
            problems["missing"].append(f"{source.component}: {source.key} {_show(source.shape)}")
            continue
        unexpected -= {(source.component, key) for key in there}
        keys[source] = there[0]
        for key in there:
            info = components[source.component].info(key)
            if info.shape != source.shape:
                problems["misshapen"].append(
                    f"{source.component}: {key} is {_show(info.shape)}, expected {_show(source.shape)}"
                )
            if info.dtype not in STORED:
                problems["of an unsupported dtype"].append(f"{source.component}: {key} is {info.dtype}")
    problems["unexpected"] = [f"{name}: {key} {_show(shapes[name][key])}" for name, key in sorted(unexpected)]
    if any(problems.values()):
        raise CheckpointError(_report(title, problems))
    return keys


def _report(title: str, problems: Mapping[str, list[str]]) -> str:
    counts = ", ".join(f"{len(lines)} {kind}" for kind, lines in problems.items() if lines)
    report = [f"{title}: the tensors are not those of the model: {counts}"]
    for kind, lines in problems.items():
        report += [f"  {kind}: {line}" for line in lines[:SHOWN]]
        if len(lines) > SHOWN:
            report.append(f"  {kind}: and {len(lines) - SHOWN} more")
    return "\n".join(report)


def _show(shape: Iterable[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
