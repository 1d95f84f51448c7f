"""Names of a job's options: its own, and what Genmo and diffusers call the same things."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from mochi_aot.runtime.defaults import ALIASES, PRESETS, SIZES, dashed
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.geometry import with_sizes
from mochi_aot.runtime.job import Job, option_name

FIELDS = {option_name(field.name): field.name for field in fields(Job)}


def same_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values under the names in FIELDS and SIZES, for names that may be aliases or have underscores.

    Raise OptionError if an option is given by two of its names.
    """
    named: dict[str, str] = {}
    for name in values:
        plain = ALIASES.get(dashed(name), dashed(name))
        if plain in named:
            raise OptionError(f"{named[plain]} and {name} are one option; give it once")
        named[plain] = name
    sizes = [named[size] for size in SIZES if size in named]
    if "geometry" in named and sizes:
        raise OptionError(f"geometry and {sizes[0]} say the same thing; give one")
    return {plain: values[name] for plain, name in named.items()}


def with_options(base: Job, values: Mapping[str, Any]) -> Job:
    """Return `base` with values by option name, of which those in SIZES change its geometry.

    The names are as `same_names` returns them, the values of the types of Job's fields. `preset` stands for those
    options of PRESETS that are not among the values. Raise OptionError for an unknown one, and beside sigmas.
    """
    preset = values.get("preset")
    if preset is not None:
        values = {**_preset(preset, values), **values}
    changes = {FIELDS[name]: value for name, value in values.items() if name in FIELDS}
    geometry = with_sizes(changes.pop("geometry", base.geometry), *(values.get(size) for size in SIZES))
    return replace(base, **changes, geometry=geometry)


def _preset(name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    if name not in PRESETS:
        raise OptionError(f"preset is {name!r}, expected {', '.join(PRESETS)}")
    if values.get("sigmas") is not None:
        raise OptionError("preset and sigmas are both a schedule; give one")
    return PRESETS[name]
