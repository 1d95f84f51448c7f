"""Fields of requests, and files of keys."""

import math
from pathlib import Path
from typing import Any

import pytest

from mochi_aot.tools.serve.errors import KeysError, RequestError
from mochi_aot.tools.serve.keys import Caller, Keys
from mochi_aot.tools.serve.wanted import read_wanted

GEOMETRIES = ("480x848x163", "480x848x31", "64x96x19")
CALLER = Caller("ann", priority=3)


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({}, (480, 848, 163)),
        ({"size": "96x64"}, (64, 96, 19)),
        ({"seconds": "1"}, (480, 848, 31)),  # 31 frames at 30 a second
        ({"seconds": 5}, (480, 848, 163)),
        ({"seconds": "5", "fps": 6}, (480, 848, 31)),
        ({"num_frames": 31.0}, (480, 848, 31)),
        ({"height": "64", "width": 96}, (64, 96, 19)),
    ],
)
def test_which_geometry(fields: dict[str, Any], sizes: tuple[int, int, int]) -> None:
    arguments = read_wanted({"prompt": "fox", **fields}, GEOMETRIES, CALLER).arguments
    assert (arguments["height"], arguments["width"], arguments["num_frames"]) == sizes


def test_texts_of_a_form_are_numbers() -> None:
    fields = {"prompt": "fox", "num_inference_steps": "4", "guidance_scale": "4.5", "seed": "7", "fps": "10"}
    wanted = read_wanted({**fields, "priority": "3"}, GEOMETRIES, CALLER)
    assert {"num_inference_steps": 4, "guidance_scale": 4.5, "seed": 7}.items() <= wanted.arguments.items()
    assert (wanted.fps, wanted.priority) == (10.0, 3)


def test_a_seed_is_drawn_once() -> None:
    seeds = {read_wanted({"prompt": "fox"}, GEOMETRIES, CALLER).arguments["seed"] for _ in range(8)}
    assert len(seeds) > 1 and all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("prompt", None, "no prompt"),
        ("prompt", ["fox"], "prompt is a list, expected a text"),
        ("prompt", "x" * 10_001, "10001 characters"),
        ("size", "../../etc", "expected WIDTHxHEIGHT"),
        ("size", "64x96", "this model makes 848x480 with 163 frames"),
        ("seconds", "12", "no such size or length"),
        ("num_inference_steps", 0, "expected 1 to 1000"),
        ("num_inference_steps", True, "expected a whole number"),
        ("num_inference_steps", 1.5, "expected a whole number"),
        ("seed", 10**400, "a huge number"),
        ("seed", -1, "expected 0 to"),
        ("fps", math.nan, "expected 1 to 1000"),
        ("fps", math.inf, "expected 1 to 1000"),
        ("guidance_scale", "1e999", "expected 0 to 100"),
        ("guidance_scale", "٣", "expected a number"),
        ("priority", 4, "expected -100 to 3"),
    ],
)
def test_what_is_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_wanted({"prompt": "fox", field: value}, GEOMETRIES, CALLER)
    assert says in str(refused.value) and len(str(refused.value)) < 250
    assert (refused.value.status, refused.value.field) == (400, field)


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# who may ask\nann ann-has-a-long-key jobs=2 priority=5\nbob bob-has-another-key  # for tests\n")
    keys = Keys(path)
    assert keys.caller("Bearer ann-has-a-long-key") == Caller("ann", 2, 5)
    assert keys.caller("bearer bob-has-another-key") == Caller("bob", None, 0)
    for header in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer ann-has-a-long-ke",
        "Basic ann-has-a-long-key",
        "Bearer \udcff",
    ):
        with pytest.raises(RequestError) as refused:
            keys.caller(header)
        assert refused.value.status == 401


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no key"),
        ("ann", "line 1: expected NAME KEY"),
        ("ann short", "line 1: expected NAME KEY"),
        ("ann ann-has-a-long-key jobs=-1", "'jobs=-1' is neither"),
        ("ann ann-has-a-long-key\nann ann-has-another-key", "line 2: 'ann' has a key already"),
    ],
)
def test_a_file_of_keys_that_says_nothing(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(KeysError, match=says):
        Keys(tmp_path / "keys")
