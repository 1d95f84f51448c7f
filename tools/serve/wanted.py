"""What a request asks for: its fields, whatever was sent in them, become keywords of `VideoPipeline.__call__`."""

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.keys import Caller
from mochi_aot.tools.serve.settings import MAX_PRIORITY, MAX_PROMPT, MAX_STEPS

DEFAULT_FPS = 30.0  # as mochi-run's
_MOST = 2**63


@dataclass(frozen=True)
class Wanted:
    """A video to make: keywords of `VideoPipeline.__call__`, with a seed, and the frames per second of its file."""

    arguments: dict[str, Any]
    fps: float
    priority: int


def read_wanted(fields: Mapping[str, Any], geometries: Sequence[str], caller: Caller) -> Wanted:
    """Return what the fields of a request ask for. Fields of other names are the dialect's business.

    The seed is drawn here where there is none: a job that runs again after a restart makes the same video. Raise
    RequestError, with the field, for what is no number or text, or beyond the limits of a server.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    fps = _number(given, "fps", 1.0, 1000.0)
    priority = _whole(given, "priority", -MAX_PRIORITY, caller.priority)
    seed = _whole(given, "seed", 0, _MOST - 1)
    arguments = {
        "prompt": _text(given, "prompt"),
        "negative_prompt": _text(given, "negative_prompt"),
        "num_inference_steps": _whole(given, "num_inference_steps", 1, MAX_STEPS),
        "guidance_scale": _number(given, "guidance_scale", 0.0, 100.0),
        "seed": secrets.randbits(32) if seed is None else seed,
        **_geometry(given, geometries, fps or DEFAULT_FPS),
    }
    if arguments["prompt"] is None:
        raise RequestError(400, "no prompt: give the field prompt, a text of what the video shows", "prompt")
    return Wanted(
        {name: value for name, value in arguments.items() if value is not None}, fps or DEFAULT_FPS, priority or 0
    )


def sizes_of(geometry: str) -> tuple[int, int, int]:
    """Return height, width and frames of a geometry's name."""
    height, width, frames = map(int, geometry.split("x"))
    return height, width, frames


def _geometry(given: Mapping[str, Any], geometries: Sequence[str], fps: float) -> dict[str, int]:
    """Return the sizes of the first geometry that fits what is given: size or height and width, frames or seconds."""
    height, width = _whole(given, "height", 1, 10**6), _whole(given, "width", 1, 10**6)
    if "size" in given:
        match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", _text(given, "size") or "")
        if match is None:
            raise RequestError(400, f"size is {shown(given['size'])}, expected WIDTHxHEIGHT", "size")
        width, height = int(match[1]), int(match[2])
    frames = _whole(given, "num_frames", 1, 10**6)
    seconds = _number(given, "seconds", 0.0, 10**6)
    for name in geometries:
        sizes = sizes_of(name)
        fits = all(wanted in (None, size) for wanted, size in zip((height, width, frames), sizes, strict=True))
        # A bundle makes so many frames and no others: the nearest whole number of seconds is what they are called.
        if fits and (seconds is None or abs(sizes[2] / fps - seconds) <= 0.5):
            return dict(zip(("height", "width", "num_frames"), sizes, strict=True))
    known = ", ".join(f"{w}x{h} with {f} frames ({f / fps:.2g} s)" for h, w, f in map(sizes_of, geometries))
    asked = next((name for name in ("size", "height", "width", "num_frames", "seconds") if name in given), None)
    raise RequestError(400, f"no such size or length; at {fps:g} frames a second this model makes {known}", asked)


def shown(value: Any) -> str:
    """Return a value of a request for a message: short, and in ASCII."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value) if not isinstance(value, int) or abs(value) < _MOST else "a huge number"
    return text if len(text) <= 60 else f"{text[:60]}..."


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestError(400, f"{name} is {shown(value)}, expected a text", name)
    if value is not None and len(value) > MAX_PROMPT:
        raise RequestError(400, f"{name} has {len(value)} characters, expected at most {MAX_PROMPT}", name)
    return value


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    """Return a number, which may come as a text, as all fields of a form do."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(400, f"{name} is {shown(value)}, expected a number", name)
    if not least <= value <= most:
        raise RequestError(400, f"{name} is {shown(value)}, expected {least:g} to {most:g}", name)
    return float(value)


def _whole(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(400, f"{name} is {shown(value)}, expected a whole number", name)
    if not least <= value <= most:
        raise RequestError(400, f"{name} is {shown(value)}, expected {least} to {most}", name)
    return value
