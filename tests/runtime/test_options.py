"""Genmo's and diffusers' names of options."""

import pytest

from mochi_aot.runtime.defaults import ALIASES, SIZES
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.job import Job
from mochi_aot.runtime.options import FIELDS, same_names, with_options


def test_every_alias_is_of_an_option_and_is_none_itself() -> None:
    assert set(ALIASES.values()) <= set(FIELDS)
    assert not set(ALIASES) & (set(FIELDS) | set(SIZES))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("steps", "steps"),
        ("num-steps", "steps"),
        ("num_inference_steps", "steps"),
        ("cfg_scale", "guidance-scale"),
        ("guidance_scale", "guidance-scale"),
        ("sigma_schedule", "sigmas"),
        ("num_frames", "num-frames"),
        ("negative_prompt", "negative-prompt"),
    ],
)
def test_names_that_mean_the_same(name: str, plain: str) -> None:
    assert same_names({name: 1, "seed": 2}) == {plain: 1, "seed": 2}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["steps", "num-steps"], "steps and num-steps are one option; give it once"),
        (["cfg_scale", "guidance-scale"], "cfg_scale and guidance-scale are one option; give it once"),
        (["save-latents", "save_latents"], "save-latents and save_latents are one option; give it once"),
        (["width", "geometry"], "geometry and width say the same thing; give one"),
    ],
)
def test_one_option_by_two_names(names: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=f"^{message}$"):
        same_names(dict.fromkeys(names, 1))


def test_values_over_a_job() -> None:
    base = Job(prompt="a", steps=4, geometry="16x32x13")
    changed = with_options(base, {"steps": None, "num-frames": 7, "no-decode": True})
    assert changed == Job(prompt="a", geometry="16x32x7", no_decode=True)
