"""Callbacks after each step: what they see, change and stop, on a toy_bundle bundle whose results numpy can tell."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mochi_aot
from mochi_aot import BusyError, OptionError, VideoPipeline
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from tests.runtime import toy_bundle

TOLERANCE = 1e-5  # see test_pipeline.py
SHAPE, STEPS = (1, 12, 3, 2, 4), 7  # more than two tables of toy_bundle.CAPACITY steps


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[VideoPipeline]:
    toy_bundle.write_bundle(tmp_path / "b")
    with mochi_aot.load(tmp_path / "b") as loaded:
        yield loaded


def expected(guidance: list[float], stop: int = STEPS, scale_after: dict[int, float] | None = None) -> np.ndarray:
    """The formula in toy_bundle.py, with a guidance scale for each step, for "a fox" and nothing; seed 7.

    After the steps in `scale_after` latents are multiplied.
    """
    ids = np.array([[3, 5, 1, 0, 0, 0, 0, 0]])
    text = toy_bundle.expected_embeds(ids, ids > 0).astype(np.float64).sum() * toy_bundle.WEIGHTS["w_prompt"][0]
    latents = seeded_latents(7, SHAPE).astype(np.float64)
    sigmas = linear_quadratic_sigmas(STEPS).astype(np.float64)
    for step, (sigma, after) in enumerate(pairwise(sigmas)):
        if step < stop:
            velocity = guidance[step] * text + toy_bundle.WEIGHTS["w_dit"][0] * latents
            latents = (latents + (after - sigma) * velocity) * (scale_after or {}).get(step, 1.0)
    return latents


def make(pipe: VideoPipeline, callback: Any, **options: Any) -> mochi_aot.Video:
    return pipe("a fox", num_inference_steps=STEPS, seed=7, callback_on_step_end=callback, **options)


def close(latents: np.ndarray, formula: np.ndarray) -> None:
    np.testing.assert_allclose(latents, formula, rtol=TOLERANCE, atol=TOLERANCE)


def test_what_a_callback_gets(pipe: VideoPipeline) -> None:
    seen: list[tuple[Any, ...]] = []

    def callback(*arguments: Any) -> dict[str, Any]:
        seen.append((*arguments, pipe.guidance_scale))
        return arguments[3]

    video = make(pipe, callback, guidance_scale=list(range(1, STEPS + 1)))
    assert [step for _, step, *_ in seen] == list(range(STEPS)) and all(item[0] is pipe for item in seen)
    # Time as diffusers' scheduler for Mochi counts it: 1000 * (1 - sigma) before the step; see test_schedule.py.
    sigmas = linear_quadratic_sigmas(STEPS)
    np.testing.assert_allclose([item[2] for item in seen], 1000 * (1 - sigmas[:-1].astype(np.float64)), rtol=1e-12)
    assert [item[4] for item in seen] == list(range(1, STEPS + 1))
    for step, item in enumerate(seen):
        close(item[3]["latents"], expected(list(range(1, STEPS + 1)), stop=step + 1))
    np.testing.assert_array_equal(seen[-1][3]["latents"], video.latents)
    assert video.record["callback"] == {"steps_done": STEPS, "changed_latents_after": []}
    assert pipe.guidance_scale is None  # no call is running


def test_nothing_changes_with_a_callback_that_changes_nothing(pipe: VideoPipeline) -> None:
    plain = pipe("a fox", num_inference_steps=STEPS, seed=7)
    for callback in (lambda *arguments: arguments[3], lambda *_: {}, lambda *_: None):
        np.testing.assert_array_equal(make(pipe, callback).latents, plain.latents)


@pytest.mark.parametrize("at", range(STEPS))
@pytest.mark.parametrize("name", ["guidance_scale", "_guidance_scale"])  # the second one as diffusers' documents do
def test_guidance_set_by_a_callback_is_that_of_a_list(pipe: VideoPipeline, at: int, name: str) -> None:
    def callback(pipe: VideoPipeline, step: int, timestep: float, given: dict[str, Any]) -> dict[str, Any]:
        if step == at:
            setattr(pipe, name, 2.5)
        return given

    scales = [6.0] * (at + 1) + [2.5] * (STEPS - at - 1)
    video = make(pipe, callback)
    close(video.latents, expected(scales))
    by_list = pipe("a fox", num_inference_steps=STEPS, seed=7, guidance_scale=scales)
    np.testing.assert_array_equal(video.latents, by_list.latents)
    recorded = video.record["arguments"]["guidance-scale"]
    assert recorded == (6.0 if at == STEPS - 1 else scales)  # after the last step there is nothing to guide


def test_guidance_set_in_each_step(pipe: VideoPipeline) -> None:
    def callback(pipe: VideoPipeline, step: int, *_: Any) -> None:
        pipe.guidance_scale = step

    scales = [6.0, *map(float, range(STEPS - 1))]
    video = make(pipe, callback, callback_on_step_end_tensor_inputs=())
    close(video.latents, expected(scales))
    assert video.record["arguments"]["guidance-scale"] == scales


def test_a_scale_that_is_set_holds_over_a_list(pipe: VideoPipeline) -> None:
    """Also where it is the one of the step that was done."""

    def callback(pipe: VideoPipeline, step: int, *_: Any) -> None:
        if step == 1:
            pipe.guidance_scale = 5.0

    scales = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    close(make(pipe, callback, guidance_scale=scales).latents, expected([6.0, 5.0] + [5.0] * 5))


def test_one_call_does_not_steer_the_next(pipe: VideoPipeline) -> None:
    def callback(pipe: VideoPipeline, *_: Any) -> None:
        pipe.guidance_scale, pipe.interrupt = 1.0, True

    make(pipe, callback)
    close(make(pipe, lambda *_: None).latents, expected([6.0] * STEPS))
    both = pipe(["a fox", "a fox"], num_inference_steps=STEPS, seed=[7, 7], callback_on_step_end=callback)
    for video in both:
        close(video.latents, expected([6.0] * STEPS, stop=1))


@pytest.mark.parametrize("name", ["interrupt", "_interrupt"])
@pytest.mark.parametrize("at", [0, 3, STEPS - 1])
def test_a_callback_stops(pipe: VideoPipeline, at: int, name: str) -> None:
    def callback(pipe: VideoPipeline, step: int, timestep: float, given: dict[str, Any]) -> dict[str, Any]:
        setattr(pipe, name, step == at)
        return given

    video = make(pipe, callback)
    close(video.latents, expected([6.0] * STEPS, stop=at + 1))
    np.testing.assert_array_equal(video.frames, toy_bundle.expected_frames(video.latents))
    assert video.record["callback"]["steps_done"] == at + 1


@pytest.mark.parametrize("inputs", [("latents",), ()])
def test_latents_that_a_callback_returns_are_gone_on_with(pipe: VideoPipeline, inputs: tuple[str, ...]) -> None:
    formula = expected([6.0] * STEPS, stop=3) * 0.5

    def callback(pipe: VideoPipeline, step: int, timestep: float, given: dict[str, Any]) -> dict[str, Any]:
        assert list(given) == list(inputs)
        return {"latents": formula} if step == 2 else {}

    video = make(pipe, callback, callback_on_step_end_tensor_inputs=inputs)
    close(video.latents, expected([6.0] * STEPS, scale_after={2: 0.5}))
    assert video.record["callback"]["changed_latents_after"] == [2]


def test_latents_changed_in_place_and_after_the_last_step(pipe: VideoPipeline) -> None:
    def callback(pipe: VideoPipeline, step: int, timestep: float, given: dict[str, Any]) -> dict[str, Any]:
        if step in (2, STEPS - 1):
            given["latents"] *= 0.5
        return given

    video = make(pipe, callback)
    close(video.latents, expected([6.0] * STEPS, scale_after={2: 0.5, STEPS - 1: 0.5}))
    assert video.record["callback"]["changed_latents_after"] == [2, STEPS - 1]


def test_a_callback_may_decode_and_encode(pipe: VideoPipeline) -> None:
    """A preview; the other programs' weights come and go."""
    previews = []

    def callback(pipe: VideoPipeline, step: int, timestep: float, given: dict[str, Any]) -> dict[str, Any]:
        previews.append(pipe.decode(given["latents"]))
        pipe.encode_prompt("the snow")
        return given

    video = make(pipe, callback)
    close(video.latents, expected([6.0] * STEPS))
    np.testing.assert_array_equal(previews[-1], video.frames)


def test_a_callback_may_not_denoise_or_close(pipe: VideoPipeline) -> None:
    embeds = pipe.encode_prompt("a fox")
    for call in (lambda: pipe("a"), lambda: pipe.denoise(seeded_latents(0, SHAPE), *embeds), pipe.close):
        with pytest.raises(BusyError, match="is denoising; a callback may encode and decode, and nothing else"):
            make(pipe, lambda *_, call=call: call())
        close(make(pipe, lambda *_: None).latents, expected([6.0] * STEPS))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"prompt_embeds": 1}, "the callback returned 'prompt_embeds'; it may change latents"),
        ({"latents": np.zeros((1, 2))}, r"latents has shape \[1, 2\], denoise wants \[1, 12, 3, 2, 4\]"),
    ],
)
def test_what_a_callback_may_not_return(pipe: VideoPipeline, returned: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make(pipe, lambda *_: returned)


@pytest.mark.parametrize("name", ["guidance_scale", "_guidance_scale"])
def test_a_guidance_scale_out_of_range(pipe: VideoPipeline, name: str) -> None:
    with pytest.raises(OptionError, match="guidance scale is 101, expected 0 to 100"):
        make(pipe, lambda pipe, *_: setattr(pipe, name, 101.0))
