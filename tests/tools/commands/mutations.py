"""A bundle's manifest with one number, word or truth changed, and what then refuses it before anything runs."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.reader import check_size
from mochi_aot.artifacts.schema import Manifest
from mochi_aot.artifacts.validate import check_manifest, check_program_fits
from mochi_aot.runtime.programs import verify_programs
from mochi_aot.runtime.targets import choose_device

Path = tuple[str | int, ...]

# What nobody but the manifest knows, and why a wrong value does no harm or cannot be told. The SHA-256 at the end of
# the manifest stands for all of it.
FREE = {
    r"model\.(dit|vae|text)\..*": "the model's sizes were compiled into the programs; at run time they are only shown",
    r"checkpoint\..*|versions\..*|created_by|weights\[\]\.source": "origins, shown and recorded, or asked by --reuse",
    r"weights\[\]\.shards\[\]": "which of two shards of one size, both in use, a device holds: no program says",
}
FREE_ON_CHIPS = {
    **{pattern: why for pattern, why in FREE.items() if "shards" not in pattern},
    r"mesh_settings\.(l1_small|trace)_bytes": "room that is set apart: too little is an error of ttnn's own",
    r"geometries\[\]\.dram_peaks\..*": "more than the weights take; it only decides whether weights stay",
    r"kernels\.(count|compiler|build_keys\[\])": "shown only; mochi-verify compares count and keys with the archive",
    r"kernels\.(root|stand_in)": "kernels of another root or kind are left alone, and built again",
}


def scalars(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every scalar and where it is; of long lists the first three, the middle and the last three elements."""
    if is_dataclass(value):
        for field in fields(value):
            yield from scalars(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from scalars(item, (*path, key))
    elif isinstance(value, list):
        for index in sorted({*range(len(value))[:3], *range(len(value))[-3:], len(value) // 2} & {*range(len(value))}):
            yield from scalars(value[index], (*path, index))
    elif value is not None:
        yield path, value


def name(path: Path) -> str:
    """A path without the numbers of elements: weights[].local_shape[]."""
    text = "".join("[]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".")


def changes(value: Any) -> list[Any]:
    """Other values of the same type: each bit of a number, up to one more than it has; a bit of a word's letters."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value ^ 1 << bit for bit in range(value.bit_length() + 1)]
    if isinstance(value, float):
        return [value + 1.0]
    assert isinstance(value, str)
    places = {0, len(value) // 2, len(value) - 1} if value else set()
    return [value[:i] + chr(ord(value[i]) ^ 1) + value[i + 1 :] for i in sorted(places)] + [value + "x"]


def changed(value: Any, path: Path, new: Any) -> Any:
    """A copy of `value` in which one scalar is another."""
    if not path:
        return new
    step, *rest = path
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{str(step): changed(getattr(value, str(step)), tuple(rest), new)})
    copy = value.copy()
    copy[step] = changed(value[step], tuple(rest), new)
    return copy


def refusal(bundle: Bundle, manifest: Manifest) -> str | None:
    """What opening a bundle, and loading its programs, says of another manifest; nothing if all is well."""
    programs = {i: bundle.program(role, g) for g in bundle.manifest.geometries for role, i in g.programs.items()}
    other = Bundle(bundle.path, manifest, "")
    other._programs = programs  # their files are known by their hashes, which are in their paths
    try:
        check_manifest(manifest, "manifest")
        for file in manifest.files:
            check_size(bundle.path / file.path, file)
        for program in programs.values():
            check_program_fits(program, manifest, program.name)
        verify_programs(other)
        choose_device(manifest.target, None)
        other.tokenizer()
    except MochiError as error:
        return str(error)
    return None


def accepted(bundle: Bundle) -> dict[str, list[str]]:
    """The fields of which a change is not refused, with the changes."""
    found: dict[str, list[str]] = {}
    for path, value in scalars(bundle.manifest):
        for new in changes(value):
            if refusal(bundle, changed(bundle.manifest, path, new)) is None:
                found.setdefault(name(path), []).append(f"{path}: {value!r} -> {new!r}")
    return found


def unknown(found: dict[str, list[str]], free: dict[str, str]) -> dict[str, list[str]]:
    """What no pattern of `free` covers."""
    return {field: seen for field, seen in found.items() if not any(re.fullmatch(pattern, field) for pattern in free)}
