"""The record beside each result: what made it, exactly enough to make it again."""

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.checks import CheckedJob
from mochi_aot.runtime.job import arguments, record_path
from mochi_aot.runtime.paths import replacing

_PACKAGES = ("mochi-aot", "numpy", "tokenizers", "imageio-ffmpeg")


def write_record(checked: CheckedJob, bundle: Bundle, device: str, timings: Mapping[str, float]) -> Path:
    """Writes the JSON record of a finished job, whole or not at all, and returns its path; timings are in seconds.

    `arguments` in it is a valid line of a sweep, with the seed that was used. `prompt_cut` is the end of a prompt that
    was too long, which had no effect, and null if all of it had; so is `negative_prompt_cut`.
    """
    path = record_path(checked.job)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_record(checked, bundle, device, timings), indent=2) + "\n", encoding="utf-8")
    return path


def _record(checked: CheckedJob, bundle: Bundle, device: str, timings: Mapping[str, float]) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "arguments": arguments(checked.job),
        "prompt_cut": checked.cuts.get("prompt"),
        "negative_prompt_cut": checked.cuts.get("negative-prompt"),
        "device": device,
        "bundle": {
            "id": bundle.id,
            "target": manifest.target,
            "mesh": manifest.mesh,
            "dtype": manifest.dtype,
            "weights_dtype": manifest.weights_dtype,
            "links_dtype": manifest.links_dtype,
            "checkpoint": manifest.checkpoint,
            "versions": manifest.versions,
        },
        "versions": runtime_versions(manifest.target),
        "seconds": {phase: round(value, 3) for phase, value in timings.items()},
    }


def runtime_versions(target: str) -> dict[str, str]:
    """Returns the versions of Python, of the runtime's packages and of the target's package, where installed."""
    versions = {"python": platform.python_version()}
    for package in (*_PACKAGES, target):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
