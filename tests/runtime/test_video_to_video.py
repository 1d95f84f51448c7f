"""Video to video on the toy bundle, whose encoder and steps numpy can tell; and what cannot be asked for."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.cogvideo.pipeline_cogvideox_video2video import CogVideoXVideoToVideoPipeline
from safetensors.numpy import load_file

import mochi_aot
from mochi_aot import BundleError, OptionError, VideoPipeline
from mochi_aot.runtime.errors import OptionError as JobError
from mochi_aot.runtime.input_video import read_video
from mochi_aot.runtime.job import Job, check_options, first_step
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.sampling import guidance_of, sigmas_of
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.tools.commands.run import main
from tests.runtime import toy_bundle
from tests.runtime.test_input_video import bands, write

SHAPE = (1, 12, 3, 2, 4)
TOLERANCE = 1e-5  # see test_pipeline.py


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the bundle `b` for 16x32x13 and the clip in.mp4 of twice that size."""
    toy_bundle.write_bundle(tmp_path / "b")
    write(tmp_path / "in.mp4", bands(32, 64, 15))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(main, ["b", "--seed", "7", *map(str, arguments)])


@pytest.fixture
def pipe(folder: Path) -> Iterator[VideoPipeline]:
    with mochi_aot.load("b") as loaded:
        yield loaded


def encoded(frames: np.ndarray) -> np.ndarray:
    """What the toy's encoder makes of uint8 [13, 16, 32, 3], by the formula in toy_bundle.py."""
    means = frames[[0, 6, 12]].reshape(3, 2, 8, 4, 8, 3).mean(axis=(2, 4)) / 255
    return np.tile(means.transpose(3, 0, 1, 2)[None], (1, 4, 1, 1, 1))


def expected(frames: np.ndarray, steps: int, done: int, guidance: float = 6.0) -> np.ndarray:
    """Latents of "a fox" after the last `done` of so many steps."""
    sigmas = linear_quadratic_sigmas(steps)[steps - done :]
    start = sigmas[0] * seeded_latents(7, SHAPE) + (1 - sigmas[0]) * encoded(frames)
    ids = np.array([[3, 5, 1, 0, 0, 0, 0, 0]])
    fox = toy_bundle.expected_embeds(ids, ids > 0)
    return toy_bundle.expected_latents(start, sigmas, guidance, fox, 0 * fox)


def ok(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(("strength", "done"), [(0.3, 3), (0.99, 9)])
def test_a_video_from_another(run: Callable[..., Result], folder: Path, strength: float, done: int) -> None:
    common = ["--prompt", "a fox", "--steps", 10, "--save-latents", "l.st", "-o", "out.mp4"]
    result = ok(run("--input-video", "in.mp4", "--strength", strength, *common))
    frames = read_video(folder / "in.mp4", mochi_aot.describe("b").bundle.manifest.geometries[0])
    close(load_file("l.st")["latents"], expected(frames, 10, done))
    sigma = linear_quadratic_sigmas(10)[10 - done]
    words = f"out.mp4: 32x16, 13 frames, from in.mp4 with {sigma:.2g} of noise, the last {done} of 10 steps, seed 7, "
    assert result.stdout.startswith(words)
    record = json.loads(Path("out.json").read_text())
    assert (record["arguments"]["input-video"], record["arguments"]["strength"]) == ("in.mp4", strength)
    assert record["input_video"]["sigma"] == pytest.approx(sigma) and len(record["input_video"]["sha256"]) == 64
    assert list(record["seconds"])[:3] == ["read the video", "encode the video", "encode the prompt"]


def close(latents: np.ndarray, formula: np.ndarray) -> None:
    np.testing.assert_allclose(latents, formula, rtol=TOLERANCE, atol=TOLERANCE)


def test_strength_0_is_the_round_trip(run: Callable[..., Result], folder: Path) -> None:
    """No prompt is needed; its latents decode to the same video."""
    ok(run("--input-video", "in.mp4", "--strength", 0, "--save-latents", "l.st", "-o", "out.mp4"))
    frames = read_video(folder / "in.mp4", mochi_aot.describe("b").bundle.manifest.geometries[0])
    latents = load_file("l.st")["latents"]
    close(latents, encoded(frames))
    with mochi_aot.load("b") as pipe:
        np.testing.assert_allclose(pipe.decode(latents), toy_bundle.expected_frames(latents))
    ok(run("--input-video", "in.mp4", "--strength", 0, "--save-latents", "m.st", "--no-decode"))
    assert Path("m.st").read_bytes() == Path("l.st").read_bytes()
    ok(CliRunner().invoke(main, ["b", "--decode-latents", "m.st", "-o", "again.mp4"]))
    assert Path("again.mp4").read_bytes() == Path("out.mp4").read_bytes()


def test_the_record_makes_the_video_again(run: Callable[..., Result], folder: Path) -> None:
    ok(run("--prompt", "a fox", "--steps", 4, "--input-video", "in.mp4", "-o", "out.mp4"))
    line = json.loads(Path("out.json").read_text())["arguments"]
    assert line["strength"] == 0.3
    Path("jobs.jsonl").write_text(json.dumps({**line, "output": "again.mp4"}))
    ok(CliRunner().invoke(main, ["b", "--sweep", "jobs.jsonl"]))
    assert Path("again.mp4").read_bytes() == Path("out.mp4").read_bytes()


def test_from_python_with_frames_or_a_file(pipe: VideoPipeline, folder: Path, run: Callable[..., Result]) -> None:
    frames = read_video(folder / "in.mp4", pipe.bundle.manifest.geometries[0])
    made = pipe("a fox", video=frames, strength=0.6, num_inference_steps=10, seed=7)
    close(made.latents, expected(frames, 10, 6))
    close(pipe("a fox", video=frames, strength=1, num_inference_steps=10, seed=7).latents, expected(frames, 10, 10))
    assert set(made.record["arrays"]) == {"video"} and made.record["arguments"]["input-video"] is None
    by_name = pipe("a fox", video="in.mp4", strength=0.6, num_inference_steps=10, seed=7)
    np.testing.assert_array_equal(by_name.latents, made.latents)
    assert by_name.record["arguments"]["input-video"] == "in.mp4"
    ok(run("--prompt", "a fox", "--input-video", "in.mp4", "--strength", 0.6, "--steps", 10, "-o", "out.mp4"))
    by_name.save("again.mp4")
    assert Path("again.mp4").read_bytes() == Path("out.mp4").read_bytes()


def test_noise_of_your_own_and_several_videos(pipe: VideoPipeline) -> None:
    frames = bands(16, 32, 13)
    noise = np.concatenate([seeded_latents(7, SHAPE), seeded_latents(8, SHAPE)])
    both = pipe(["a fox"], video=frames, num_videos_per_prompt=2, latents=noise, num_inference_steps=10)
    close(both[0].latents, expected(frames, 10, 3))
    seeded = pipe(["a fox"], video=frames, num_videos_per_prompt=2, seed=7, num_inference_steps=10)
    for one, other in zip(both, seeded, strict=True):
        np.testing.assert_array_equal(one.latents, other.latents)


def test_callbacks_see_the_steps_that_are_done(pipe: VideoPipeline) -> None:
    """Guidance that one changes is recorded for all steps, also those before the first."""
    seen: list[tuple[int, float]] = []

    def callback(pipe: Any, step: int, timestep: float, values: dict[str, Any]) -> None:
        seen.append((step, timestep))
        pipe.guidance_scale = 3.0

    made = pipe("a fox", video=bands(16, 32, 13), strength=0.6, num_inference_steps=5, callback_on_step_end=callback)
    sigmas = linear_quadratic_sigmas(5)
    assert [step for step, _ in seen] == [0, 1, 2]
    np.testing.assert_allclose([time for _, time in seen], 1000 * (1 - sigmas[2:5]), rtol=1e-6)
    assert made.record["arguments"]["guidance-scale"] == [6.0, 6.0, 6.0, 3.0, 3.0]


@pytest.mark.parametrize("strength", [0.01, 0.28, 0.29, 0.3, 0.57, 0.999, 1.0])
@pytest.mark.parametrize("steps", [1, 8, 50, 64, 100])
def test_steps_are_counted_as_by_diffusers(steps: int, strength: float) -> None:
    """By its video-to-video pipeline for another model: Mochi has none."""

    class Pipeline:
        scheduler = FlowMatchEulerDiscreteScheduler()

    times = torch.arange(steps)
    kept, count = CogVideoXVideoToVideoPipeline.get_timesteps(Pipeline(), steps, times, strength, "cpu")
    job = Job(prompt="a fox", input_video="in.mp4", strength=strength, steps=steps, guidance_scale=2.0)
    if count == 0:
        with pytest.raises(JobError, match=f"a strength of {strength:g} leaves none of {steps} steps; give "):
            first_step(job)
        return
    assert first_step(job) == steps - count == kept[0]
    assert len(sigmas_of(job)) == count + 1 and guidance_of(job).shape == (count,)
    np.testing.assert_array_equal(sigmas_of(job), linear_quadratic_sigmas(steps)[steps - count :])


def test_noise_is_mixed_as_by_diffusers(pipe: VideoPipeline) -> None:
    """A callback sees what the first step makes; with a schedule of two steps the toy's step is undone by hand."""
    sigmas = [1.0, 0.64]
    frames, noise = bands(16, 32, 13), seeded_latents(7, SHAPE)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=sigmas, device="cpu")
    start = scheduler.scale_noise(
        torch.tensor(encoded(frames), dtype=torch.float32), scheduler.timesteps[1:], torch.from_numpy(noise)
    )
    made = pipe("a fox", video=frames, strength=0.5, sigmas=sigmas, seed=7)
    ids = np.array([[3, 5, 1, 0, 0, 0, 0, 0]])
    fox = toy_bundle.expected_embeds(ids, ids > 0)
    after = toy_bundle.expected_latents(start.numpy(), np.array([0.64, 0.0]), 6.0, fox, 0 * fox)
    close(made.latents, after)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 0.5}, "--strength is how far an input video is changed; give --input-video"),
        ({"input_video": "in.mp4", "strength": 1.5}, "strength is 1.5, expected 0 to 1"),
        ({"input_video": "in.mp4", "strength": -0.1}, "strength is -0.1, expected 0 to 1"),
        ({"input_video": "in.mp4", "strength": float("nan")}, "strength is nan, expected 0 to 1"),
        ({"input_video": "in.mp4", "strength": 0.01}, "leaves none of 64 steps; give 0.01562 or more, or more steps"),
        ({"input_video": "in.mp4", "prompt": None}, "no prompt: give --prompt"),
        ({"input_video": ""}, "input-video is '', expected the name of a file"),
        ({"input_video": "in.mp4", "strength": 0.0, "save_prompt_embeds": "p"}, "leave out --save-prompt-embeds"),
        ({"prompt": None, "decode_latents": "l.st", "input_video": "in.mp4"}, "leave out --input-video"),
    ],
)
def test_options_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        check_options(Job(**{"prompt": "a fox", "output": "out.mp4", **changes}))


def test_calls_that_cannot_be(pipe: VideoPipeline) -> None:
    frames = bands(16, 32, 13)
    for options, message in (
        ({"strength": 0.5}, "strength is how far a video is changed; give video, or leave it out"),
        ({"strength": 0, "video": frames}, "strength is 0, with which nothing is denoised; use encode and decode"),
        ({"strength": 2, "video": frames}, "strength is 2, expected 0 to 1"),
        ({"strength": "much", "video": frames}, "strength is 'much', expected a number"),
        ({"video": frames[:6]}, "video has 6 frames, 16x32x13 needs 13"),
    ):
        with pytest.raises(OptionError, match=message):
            pipe("a fox", **options)


def test_a_bundle_without_an_encoder(folder: Path) -> None:
    toy_bundle.write_bundle(folder / "c", without=["encode"])
    words = "c has no video encoder, which input videos need; compile it again with --with-encoder"
    result = CliRunner().invoke(main, ["c", "--prompt", "a", "--input-video", "in.mp4", "-o", "out.mp4"])
    assert result.exit_code == 3 and words in result.stderr
    with mochi_aot.load("c") as pipe:
        for call in (
            lambda: pipe("a fox", video=bands(16, 32, 13)),
            lambda: pipe.encode(bands(16, 32, 13)),
        ):
            with pytest.raises(BundleError, match=words):
                call()


def test_files_are_looked_at_before_a_device_is_opened(run: Callable[..., Result]) -> None:
    Path("text.mp4").write_text("a fox")
    Path("jobs.jsonl").write_text(
        "\n".join(json.dumps({"input-video": name, "output": f"{name}.mp4"}) for name in ("in.mp4", "text.mp4"))
    )
    result = run("--prompt", "a", "--steps", 4, "--sweep", "jobs.jsonl")
    assert result.exit_code == 3 and "line 2: text.mp4 is no video that ffmpeg can read" in result.stderr
    assert "open the device" not in result.stderr
