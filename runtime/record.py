"""The record beside each result: what made it, exactly enough to make it again."""

import json
from collections.abc import Mapping
from pathlib import Path

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.delta import StyledBundle
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.versions import versions
from mochi_aot.runtime.defaults import MOCK
from mochi_aot.runtime.job import Job, arguments, record_path

_PACKAGES = ("mochi-aot", "numpy", "tokenizers", "imageio-ffmpeg")


def make_record(
    job: Job, cuts: Mapping[str, str], bundle: Bundle, device: str, timings: Mapping[str, float], **more: object
) -> dict[str, object]:
    """Return what made a video, as JSON has it; timings are in seconds, `more` becomes keys of its own.

    `arguments` in it is a valid line of a sweep, with the seed that was used. `prompt_cut` is the end of a prompt that
    was too long, which had no effect, and null if all of it had; so is `negative_prompt_cut`. `mock` is true where no
    numbers were computed: the video is made of zeros.
    """
    manifest = bundle.manifest
    return {
        "arguments": arguments(job),
        "prompt_cut": cuts.get("prompt"),
        "negative_prompt_cut": cuts.get("negative-prompt"),
        **more,
        "device": device,
        "mock": device == MOCK,
        **_delta(bundle),
        "bundle": {
            "id": bundle.base.id if isinstance(bundle, StyledBundle) else bundle.id,
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


def _delta(bundle: Bundle) -> dict[str, object]:
    """Return what a record says of the delta that a bundle ran with."""
    if not isinstance(bundle, StyledBundle):
        return {}
    style = bundle.opened.delta.style
    return {"delta": {"id": bundle.id} | ({"style": style} if style else {})}


def write_record(job: Job, record: Mapping[str, object]) -> Path:
    """Write the record of a finished job beside its result, whole or not at all, and return its path."""
    path = record_path(job)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def runtime_versions(target: str) -> dict[str, str]:
    """Return the versions of Python, of the runtime's packages and of the target's package, where installed."""
    return versions((*_PACKAGES, target))
