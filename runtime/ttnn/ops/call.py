"""The builder of most instructions: one call of a ttnn function, its attributes decoded once."""

from collections.abc import Callable, Mapping
from typing import Any

import ttnn

from mochi_aot.runtime.executor import Call
from mochi_aot.runtime.ttnn.context import DTYPES, LAYOUTS, Context

Attrs = Mapping[str, Any]
# Attributes, and what instructions share, in; tensors in, a tensor out, or a list or tuple of tensors.
Builder = Callable[[Attrs, Context], Call]

# Attributes whose name or value is not what ttnn takes; the others are passed as they are.
_NAMES = {"axis": "cluster_axis", "compute": "compute_kernel_config"}
_TABLES: dict[str, Mapping[str, Any]] = {"dtype": DTYPES, "layout": LAYOUTS}

Config = Callable[[list[int], Context], Any]


def calls(
    function: Call,
    attributes: str = "",
    *,
    values: str = "",
    tensors: str = "",
    config: tuple[str, Config] | None = None,
) -> Builder:
    """Return a builder for `function`, which takes the operands in order, then `values`, and `attributes` as keywords.

    Each argument is a list of names, separated by spaces. The attribute "kw" of an instruction names its last operands,
    which are passed by keyword; `tensors` are the names it may hold. `config` gives the keyword for the attribute
    "program_config", and what makes its value. Attributes that an instruction does not have are not passed.
    """
    ordered, keywords, operands = values.split(), set(attributes.split()), set(tensors.split())

    def build(attrs: Attrs, context: Context) -> Call:
        names = attrs.get("kw", [])
        _require_known("operands", set(names), operands)
        _require_known("attributes", set(attrs), {*ordered, *keywords, "kw", "program_config" if config else "kw"})
        positional = [attrs[name] for name in ordered]
        passed = dict(_decode(name, attrs[name], context) for name in attrs if name in keywords)
        if config is not None and "program_config" in attrs:
            passed[config[0]] = config[1](attrs["program_config"], context)
        return _bind(function, positional, passed, names)

    return build


def _bind(function: Call, positional: list[Any], passed: dict[str, Any], names: list[str]) -> Call:
    if not names:
        return lambda *tensors: function(*tensors, *positional, **passed)
    count = len(names)

    def call(*tensors: Any) -> Any:
        named = dict(zip(names, tensors[-count:], strict=True))
        return function(*tensors[:-count], *positional, **named, **passed)

    return call


def _decode(name: str, value: Any, context: Context) -> tuple[str, Any]:
    if name == "compute":
        return _NAMES[name], context.compute(value)
    if name == "activations":
        return name, [ttnn.UnaryWithParam(getattr(ttnn.UnaryOpType, one.upper())) for one in value]
    if name in _TABLES:
        return name, _TABLES[name][value]
    return _NAMES.get(name, name), value


def _require_known(what: str, seen: set[str], known: set[str]) -> None:
    if not seen <= known:
        raise ValueError(f"{what} {sorted(seen - known)}, expected only {sorted(known)}")
