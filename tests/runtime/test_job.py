"""Ranges and combinations of options."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.job import Job, arguments, check_options, outputs, resolve
from mochi_aot.runtime.sweep import parse_line
from tests.runtime import toy_bundle

GOOD = Job(prompt="a fox", output="out.mp4")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prompt": ""},
        {"steps": 1},
        {"steps": 8, "threshold_noise": 0.1, "linear_steps": 6, "guidance_scale": 1.5},
        {"guidance_scale": (6.0, 5.0, 4.0)},
        {"steps": 2, "guidance_scale": (6.0, 5.0), "sigmas": (0.75, 0.5, 0.0)},
        {"prompt": None, "decode_latents": "l.safetensors", "fps": 24.0, "geometry": "16x32x13"},
        {"guidance_scale": 0.0},
        {"prompt": None, "prompt_embeds": "p.safetensors"},
        {"latents": "l.safetensors"},
        {"no_decode": True, "output": None, "save_latents": "l.safetensors"},
    ],
)
def test_what_can_be_asked_for(changes: dict) -> None:
    check_options(replace(GOOD, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, "no prompt: give --prompt, or --prompt-embeds"),
        ({"prompt_embeds": "p"}, "--prompt and --prompt-embeds exclude each other"),
        ({"seed": 1, "latents": "l"}, "--seed and --latents exclude each other"),
        ({"output": None}, "no output: give --output"),
        ({"output": "out.avi"}, "the output is 'out.avi', expected a name ending in .mp4"),
        ({"output": "a\0.mp4"}, "output has a NUL character"),
        ({"output": "\ud800.mp4"}, r"output is '\\ud800\.mp4', expected the name of a file"),
        ({"save_latents": "."}, "save-latents is '.', expected the name of a file"),
        ({"save_latents": ""}, "save-latents is '', expected the name of a file"),
        ({"sigmas": (1e300, 0.0)}, r"sigmas is 1e\+300,0, expected numbers that fall"),
        ({"no_decode": True}, "--no-decode makes no video; give --save-latents"),
        ({"no_decode": True, "save_latents": "l"}, "leave out one of them"),
        ({"steps": 0}, "steps is 0, expected 1 or more"),
        ({"steps": 10**6}, "steps is 1000000, expected at most 10000"),
        ({"threshold_noise": 1.5}, "threshold noise is 1.5"),
        ({"linear_steps": 64}, "linear steps is 64, expected 1 to 63"),
        ({"guidance_scale": -1.0}, "guidance scale is -1, expected 0 to 100"),
        ({"guidance_scale": float("nan")}, "guidance scale is nan"),
        ({"guidance_scale": (6.0, 101.0)}, "guidance scale is 101, expected 0 to 100"),
        ({"guidance_scale": ()}, "guidance scale has 0 numbers, expected at least one"),
        ({"guidance_scale": (6.0,), "steps": 2}, "guidance scale has 1 numbers, expected one for each of 2 steps"),
        ({"guidance_scale": (6.0,), "sigmas": (1.0, 0.5)}, "has 1 numbers, expected one for each of 2 steps"),
        ({"sigmas": (1.0, 0.5, 0.0), "steps": 3}, "sigmas has 3 numbers with the last 0, expected 4 for 3 steps"),
        ({"sigmas": (1.0, 0.5), "linear_steps": 1}, "--sigmas is the whole schedule; leave out"),
        ({"sigmas": (1.0, 0.5), "threshold_noise": 0.1}, "--sigmas is the whole schedule; leave out"),
        ({"sigmas": (0.5, 1.0)}, "sigmas is 0.5,1,0, expected numbers that fall"),
        ({"steps": 0, "guidance_scale": ()}, "guidance scale has 0 numbers, expected one for each of 0 steps"),
        ({"decode_latents": "l"}, "--decode-latents makes a video of finished latents; leave out --prompt"),
        ({"prompt": None, "decode_latents": "l", "steps": 4}, "leave out --steps"),
        ({"prompt": None, "decode_latents": "l", "save_latents": "m"}, "leave out --save-latents"),
        ({"prompt": None, "decode_latents": "l", "no_decode": True}, "--decode-latents and --no-decode exclude"),
        ({"prompt": None, "decode_latents": "l", "output": None}, "no output: give --output"),
        ({"fps": 0.0}, "fps is 0, expected 1 to 1000"),
        ({"fps": float("inf")}, "fps is inf"),
        ({"seed": -1}, "seed is -1, expected 0 to"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"prompt": "broken \ud800"}, r"the prompt 'broken \\ud800' is not valid Unicode"),
        ({"negative_prompt": "\udcff"}, "is not valid Unicode"),
        ({"negative_prompt": "a" * 16385}, "^negative-prompt has 16385 characters, expected at most 16384"),
    ],
)
def test_what_cannot(changes: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check_options(replace(GOOD, **changes))


def test_resolved_values_stand_in_the_arguments(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    resolved = resolve(GOOD, bundle)
    assert resolved.seed is not None and resolve(GOOD, bundle).seed != resolved.seed
    assert (resolved.linear_steps, resolved.geometry) == (32, "16x32x13")
    assert resolve(replace(GOOD, latents="l"), bundle).seed is None
    assert resolve(replace(GOOD, steps=1), bundle).linear_steps is None
    assert arguments(resolve(replace(GOOD, sigmas=(1.0, 0.5)), bundle))["sigmas"] == [1.0, 0.5, 0.0]
    again = parse_line(json.dumps(arguments(resolved)), Job(prompt="other", steps=3, seed=4))
    assert again == resolved
    check_options(again)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 64),
        ({"steps": 8}, 8),
        ({"guidance_scale": (6.0, 5.0, 4.0)}, 3),
        ({"sigmas": (1.0, 0.5, 0.25, 0.0)}, 3),
        ({"sigmas": (1.0, 0.5, 0.25)}, 3),
    ],
)
def test_lists_say_how_many_steps(tmp_path: Path, changes: dict, steps: int) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle")
    resolved = resolve(replace(GOOD, **changes), Bundle.open(tmp_path / "bundle"))
    assert resolved.steps == steps
    line = json.dumps(arguments(resolved))
    again = parse_line(line, Job(prompt="other", steps=5, guidance_scale=2.0, geometry="*x*x7"))
    assert again == resolved
    check_options(again)


def test_files_that_a_job_writes() -> None:
    job = replace(GOOD, output="a/b.mp4", save_latents="l.st", save_prompt_embeds="p.st")
    assert outputs(job) == [Path("a/b.mp4"), Path("l.st"), Path("p.st"), Path("a/b.json")]
    latents = replace(GOOD, output=None, no_decode=True, save_latents="x/l.safetensors")
    assert outputs(latents) == [Path("x/l.safetensors"), Path("x/l.json")]
