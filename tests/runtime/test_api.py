"""The Python API on a toy_bundle bundle whose results numpy can tell, and against the command line bit for bit."""

import inspect
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import load_file

import mochi_aot
from mochi_aot import BusyError, ClosedError, NumbersError, OptionError, OutputError, Video, VideoPipeline, describe
from mochi_aot.runtime.api import CallOptions
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Usage
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.tools.commands.run import main as mochi_run
from tests.runtime import toy_bundle

# See test_pipeline.py.
TOLERANCE = 1e-5
SHAPE, SMALL = (1, 12, 3, 2, 4), (1, 12, 2, 2, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    toy_bundle.write_bundle(tmp_path / "b")
    return tmp_path / "b"


@pytest.fixture
def pipe(path: Path) -> Iterator[VideoPipeline]:
    with mochi_aot.load(path) as loaded:
        yield loaded


def expected(
    seed: int, ids: list[int], steps: int = 4, guidance: float = 6.0, negative: tuple[int, ...] = (), shape: Any = SHAPE
) -> np.ndarray:
    """Latents of a prompt's token ids, by the formula in toy_bundle.py."""
    embeds = []
    for tokens in (ids, negative):
        padded = np.array([[*tokens, *[0] * (toy_bundle.LENGTH - len(tokens))]])
        embeds.append(toy_bundle.expected_embeds(padded, padded > 0))
    return toy_bundle.expected_latents(seeded_latents(seed, shape), linear_quadratic_sigmas(steps), guidance, *embeds)


FOX, OWL, SNOW = [3, 5, 1], [3, 7, 1], [10, 1]  # "a fox", "a owl", "snow"


def close(latents: np.ndarray, formula: np.ndarray) -> None:
    np.testing.assert_allclose(latents, formula, rtol=TOLERANCE, atol=TOLERANCE)


def test_one_video(pipe: VideoPipeline) -> None:
    video = pipe("a fox", num_inference_steps=4, seed=7)
    close(video.latents, expected(7, FOX))
    assert video.frames.dtype == np.uint8
    np.testing.assert_array_equal(video.frames, toy_bundle.expected_frames(video.latents))
    assert (pipe.device, pipe.mock, pipe.geometries) == ("cpu", False, ("16x32x13", "16x16x7"))
    assert pipe.last_latents[0] is video.latents and len(pipe.last_latents) == 1


def test_it_is_what_the_command_line_makes(pipe: VideoPipeline, tmp_path: Path) -> None:
    """Bit for bit: mp4, latents, and all of the record but times and file names."""
    options = ["--negative-prompt", "snow", "--seed", "7", "--guidance-scale", "4,3,2", "--sigmas", "1,0.7,0.25"]
    files = ["-o", str(tmp_path / "a.mp4"), "--save-latents", str(tmp_path / "a.st"), "--fps", "24"]
    result = CliRunner().invoke(mochi_run, [str(tmp_path / "b"), "--prompt", "a fox", *options, *files])
    assert result.exit_code == 0, result.output
    video = pipe("a fox", negative_prompt="snow", seed=7, guidance_scale=[4, 3, 2], sigmas=[1, 0.7, 0.25])
    np.testing.assert_array_equal(video.latents, load_file(tmp_path / "a.st")["latents"])
    video.save(tmp_path / "c.mp4", fps=24)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ac")
    assert list(first["seconds"]) == [*list(second["seconds"])[:-1], "write the video", "total"]
    for record in (first, second):
        del record["seconds"], record["arguments"]["output"], record["arguments"]["save-latents"]
    assert first == second


def test_defaults_are_the_command_lines(pipe: VideoPipeline, tmp_path: Path) -> None:
    arguments = pipe("a fox").record["arguments"]
    assert (arguments["steps"], arguments["guidance-scale"]) == (64, 6.0)
    assert 0 <= arguments["seed"] < 2**32
    again = pipe("a fox", seed=arguments["seed"])
    np.testing.assert_array_equal(again.latents, pipe("a fox", seed=arguments["seed"]).latents)


def test_numbers_of_numpy_are_numbers(pipe: VideoPipeline, tmp_path: Path) -> None:
    """Also in the record, which JSON would not take them for."""
    plain = pipe("a fox", num_inference_steps=2, seed=7, guidance_scale=[4.5, 3.0], linear_steps=1, threshold_noise=0.5)
    video = pipe(
        "a fox",
        num_inference_steps=np.int64(2),  # type: ignore[call-overload]
        seed=np.uint8(7),
        guidance_scale=np.array([4.5, 3.0], np.float32),
        linear_steps=np.int32(1),
        threshold_noise=np.float32(0.5),
    )
    np.testing.assert_array_equal(video.latents, plain.latents)
    video.save(tmp_path / "a.mp4")
    assert json.loads((tmp_path / "a.json").read_text())["arguments"]["guidance-scale"] == [4.5, 3.0]


def test_several_prompts_and_videos(pipe: VideoPipeline) -> None:
    """Those of one prompt follow each other; the seed counts on."""
    videos = pipe(
        ["a fox", "a owl"], negative_prompt=["snow", ""], num_videos_per_prompt=2, num_inference_steps=4, seed=1
    )
    prompts = [(FOX, tuple(SNOW)), (FOX, tuple(SNOW)), (OWL, ()), (OWL, ())]
    assert len(videos) == len(pipe.last_latents) == 4
    for seed, (video, (ids, negative)) in enumerate(zip(videos, prompts, strict=True), start=1):
        close(video.latents, expected(seed, ids, negative=negative))
        assert video.record["arguments"]["seed"] == seed
    alone = pipe("a owl", num_inference_steps=4, seed=3)
    np.testing.assert_array_equal(alone.latents, videos[2].latents)


def test_when_the_result_is_a_list(pipe: VideoPipeline) -> None:
    options: dict[str, Any] = {"num_inference_steps": 1, "output_type": "latent"}
    assert isinstance(pipe("a fox", **options), Video)
    for made in (
        pipe(["a fox"], **options),
        pipe("a fox", num_videos_per_prompt=1, **options),
    ):
        assert isinstance(made, list) and len(made) == 1


def test_one_negative_prompt_is_for_all(pipe: VideoPipeline) -> None:
    for seed, video in enumerate(
        pipe(["a fox", "a owl"], negative_prompt="snow", num_inference_steps=4, seed=[5, 6]), 5
    ):
        close(video.latents, expected(seed, [FOX, OWL][seed - 5], negative=tuple(SNOW)))


def test_type_checkers_see_every_argument() -> None:
    deciding = {"self", "prompt", "num_videos_per_prompt", "prompt_embeds", "prompt_attention_mask"}
    seen = set(CallOptions.__annotations__)
    assert not seen & deciding
    assert set(inspect.signature(VideoPipeline.__call__).parameters) == seen | deciding


def test_sizes_pick_a_geometry(pipe: VideoPipeline) -> None:
    for sizes in ({"num_frames": 7}, {"width": 16}, {"height": 16, "width": 16, "num_frames": 7}):
        video = pipe("a fox", num_inference_steps=4, seed=2, **sizes)
        assert video.frames.shape == (7, 16, 16, 3)
        close(video.latents, expected(2, FOX, shape=SMALL))
    with pytest.raises(OptionError, match=r"no geometry '480x\*x\*' in the bundle; it has 16x32x13, 16x16x7"):
        pipe("a fox", height=480)


def test_latents_and_embeddings_are_taken_as_diffusers_takes_them(pipe: VideoPipeline) -> None:
    video = pipe("a fox", negative_prompt="snow", num_inference_steps=4, seed=7)
    embeds = pipe.encode_prompt("a fox", "snow")
    assert [array.shape for array in embeds] == [(1, 8, 4), (1, 8), (1, 8, 4), (1, 8)]
    made = pipe(**embeds._asdict(), latents=seeded_latents(7, SHAPE), num_inference_steps=4)
    assert isinstance(made, Video)
    np.testing.assert_array_equal(made.latents, video.latents)
    record = made.record
    assert record["arguments"]["prompt"] is None and record["arguments"]["seed"] is None
    assert list(record["arrays"]) == ["prompt_embeds", "negative_prompt_embeds", "latents"]
    assert "arrays" not in video.record

    two = pipe.encode_prompt(["a fox", "a owl"])
    assert [array.shape for array in two] == [(2, 8, 4), (2, 8), (2, 8, 4), (2, 8)]
    made = pipe(prompt_embeds=two[0], prompt_attention_mask=two[1], num_inference_steps=4, seed=7)
    assert isinstance(made, list)
    close(made[1].latents, expected(8, OWL))


def test_latents_pick_a_geometry(pipe: VideoPipeline) -> None:
    video = pipe("a fox", latents=seeded_latents(4, SMALL), num_inference_steps=4)
    close(video.latents, expected(4, FOX, shape=SMALL))
    both = np.concatenate([seeded_latents(4, SMALL), seeded_latents(5, SMALL)])
    assert len(pipe("a fox", latents=both, num_videos_per_prompt=2, num_inference_steps=1)) == 2


def test_phases_one_by_one(pipe: VideoPipeline) -> None:
    video = pipe("a fox", num_inference_steps=4, seed=7, num_frames=7)
    noise = pipe.prepare_latents(7, num_frames=7)
    np.testing.assert_array_equal(noise, seeded_latents(7, SMALL))
    latents = pipe.denoise(noise, *pipe.encode_prompt("a fox"), num_inference_steps=4)
    np.testing.assert_array_equal(latents, video.latents)
    np.testing.assert_array_equal(pipe.decode(latents), video.frames)
    two = pipe.denoise(np.concatenate([noise, noise]), *pipe.encode_prompt("a fox"), num_inference_steps=4)
    np.testing.assert_array_equal(two, np.concatenate([latents, latents]))
    blocks = video.frames[::6, ::8, ::8].transpose(3, 0, 1, 2) / 255
    np.testing.assert_allclose(pipe.encode(video.frames)[0], np.concatenate([blocks] * 4), atol=1e-5)


def test_output_types(pipe: VideoPipeline, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_inference_steps": 2, "seed": 7}
    array, images, latent = (pipe("a fox", output_type=kind, **options) for kind in ("np", "pil", "latent"))
    assert len(images.frames) == 13 and all(isinstance(image, Image.Image) for image in images.frames)
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in images.frames]), array.frames)
    np.testing.assert_array_equal(latent.latents, array.latents)
    assert latent.frames is None and "decode" not in latent.record["seconds"]
    images.save(tmp_path / "images.mp4")
    array.save(tmp_path / "array.mp4")
    assert (tmp_path / "images.mp4").read_bytes() == (tmp_path / "array.mp4").read_bytes()
    with pytest.raises(OptionError, match="decodes nothing that could be saved"):
        latent.save(tmp_path / "latent.mp4")
    with pytest.raises(OptionError, match="output_type is 'pt', expected np, pil, latent"):
        pipe("a fox", output_type="pt")  # type: ignore[call-overload]


def test_without_pillow(pipe: VideoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        OptionError, match=r'^output_type="pil" needs Pillow, which is not installed: pip install pillow'
    ):
        pipe("a fox", output_type="pil")


def test_saving(pipe: VideoPipeline, tmp_path: Path) -> None:
    video = pipe("a fox", num_inference_steps=2, seed=7)
    video.save(tmp_path / "a.mp4")
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["arguments"]["output"] == str(tmp_path / "a.mp4") and record["mock"] is False
    with pytest.raises(OutputError, match=r"a.mp4 exists; give another name, or --force"):
        video.save(tmp_path / "a.mp4")
    video.save(str(tmp_path / "a.mp4"), fps=12, force=True)
    assert json.loads((tmp_path / "a.json").read_text())["arguments"]["fps"] == 12.0
    with pytest.raises(OptionError, match=r"the output is 'a.gif', expected a name ending in .mp4"):
        video.save("a.gif")
    with pytest.raises(OptionError, match="fps is 0"):
        video.save(tmp_path / "b.mp4", fps=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.mp4", "b"]


def test_a_long_prompt_is_a_warning_and_in_the_record(pipe: VideoPipeline, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mochi_aot"):
        video = pipe("a red fox in the green snow a red owl", num_inference_steps=1)
    assert caplog.messages == ["the prompt has more than 8 tokens; its end has no effect: 'a red owl'"]
    assert video.record["prompt_cut"] == "a red owl"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "give either prompt or prompt_embeds"),
    ({"prompt": "a", "prompt_embeds": 1, "prompt_attention_mask": 1}, "give either prompt or prompt_embeds"),
    ({"prompt_embeds": np.zeros((1, 8, 4))}, "prompt_embeds and prompt_attention_mask belong together; give both"),
    ({"prompt": "a", "negative_prompt_embeds": 1}, "negative_prompt_embeds and negative_prompt_attention_mask belong"),
    ({"prompt": []}, "prompt is an empty list"),
    ({"prompt": [1]}, "prompt has 1 in it, expected text"),
    ({"prompt": "\ud800"}, "is not valid Unicode"),
    ({"prompt": ["a", "b"], "negative_prompt": ["c"]}, "negative_prompt has 1 prompts, expected 2, as the others"),
    ({"prompt": "a", "negative_prompt": ["c", "d"]}, "negative_prompt has 2 prompts, expected 1"),
    ({"prompt": "a", "seed": 1, "latents": np.zeros(SHAPE)}, "seed and latents exclude each other"),
    ({"prompt": "a", "seed": -1}, "seed is -1"),
    ({"prompt": "a", "seed": [1, 2]}, "seed has 2 numbers, expected one for each of 1 videos"),
    ({"prompt": "a", "num_videos_per_prompt": 0}, "num_videos_per_prompt is 0, expected 1 or more"),
    ({"prompt": "a", "num_inference_steps": 0}, "steps is 0"),
    ({"prompt": "a", "num_inference_steps": 4.5}, "num_inference_steps is 4.5, expected a whole number"),
    ({"prompt": "a", "num_videos_per_prompt": 1.5}, "num_videos_per_prompt is 1.5, expected a whole number"),
    ({"prompt": "a", "seed": 1.5}, "seed is 1.5, expected a whole number"),
    ({"prompt": "a", "seed": "7"}, "seed is '7', expected a whole number"),
    ({"prompt": "a", "guidance_scale": "6"}, "guidance_scale is '6', expected a number"),
    ({"prompt": "a", "guidance_scale": ["6"]}, "guidance_scale is '6', expected a number"),
    ({"prompt": "a", "guidance_scale": [[6.0]]}, r"guidance_scale is \[\[6.0\]\], expected a list of numbers"),
    ({"prompt": "a", "sigmas": 0.5}, "sigmas is 0.5, expected a list of numbers"),
    ({"prompt": "a", "guidance_scale": 101}, "guidance scale is 101"),
    ({"prompt": "a", "guidance_scale": [1, 2], "num_inference_steps": 3}, "guidance scale has 2 numbers"),
    ({"prompt": "a", "sigmas": [0.5, 1]}, "sigmas is 0.5,1,0"),
    ({"prompt": "a", "sigmas": [1, 0.5], "num_inference_steps": 3}, "sigmas has 3 numbers with the last 0"),
    ({"prompt": "a", "latents": np.zeros((2, 2))}, r"latents has shape \[1, 2\], denoise of this bundle wants"),
    ({"prompt": "a", "latents": np.zeros((2, *SHAPE[1:]))}, r"latents has shape \[2, 12, 3, 2, 4\], expected \[1, 12"),
    ({"prompt": "a", "latents": np.full(SHAPE, np.nan)}, "latents has values that are not finite"),
    (
        {"prompt_embeds": np.zeros((1, 9, 4)), "prompt_attention_mask": np.zeros((1, 9))},
        r"prompt_embeds has shape \[1, 9, 4\], expected \[1, 8, 4\]",
    ),
    (
        {"prompt_embeds": np.zeros((1, 8, 4)), "prompt_attention_mask": np.full((1, 8), 2)},
        "prompt_attention_mask has values other than 0 and 1",
    ),
    (
        {"prompt_embeds": np.zeros((0, 8, 4)), "prompt_attention_mask": np.zeros((0, 8))},
        r"prompt_embeds has no prompt; expected \[prompts, 8, 4\]",
    ),
    (
        {
            "prompt": ["a"] * 3,
            "negative_prompt_embeds": np.zeros((2, 8, 4)),
            "negative_prompt_attention_mask": np.zeros((2, 8)),
        },
        "negative_prompt_embeds has 2 prompts, expected 3",
    ),
    (
        {"prompt": "a", "callback_on_step_end": lambda *_: {}, "callback_on_step_end_tensor_inputs": ["velocity"]},
        "a callback gets no 'velocity'; it can have latents",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_arguments_that_cannot_be(pipe: VideoPipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipe(**arguments)


def test_arrays_of_wrong_shape_or_type_one_by_one(pipe: VideoPipeline) -> None:
    with pytest.raises(
        OptionError, match=r"latents has shape \[1, 2\], decode of this bundle wants \[1, 12, 3, 2, 4\] or"
    ):
        pipe.decode(np.zeros((1, 2)))
    with pytest.raises(OptionError, match="frames are float64, expected uint8"):
        pipe.encode(np.zeros((13, 16, 32, 3)))
    with pytest.raises(OptionError, match=r"frames has shape \[13, 16\], encode of this bundle wants"):
        pipe.encode(np.zeros((13, 16), np.uint8))
    with pytest.raises(OptionError, match="seed is -1"):
        pipe.prepare_latents(-1)


def test_missing_programs_are_named(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b", without=["encode", "decode"])
    with mochi_aot.load(tmp_path / "b") as pipe:
        pipe("a fox", num_inference_steps=1, output_type="latent")
        with pytest.raises(mochi_aot.BundleError, match="no program 'decode'; it has"):
            pipe("a fox", num_inference_steps=1)
        assert len(pipe.last_latents) == 1  # nothing of the second call ran
        with pytest.raises(mochi_aot.BundleError, match="has no video encoder"):
            pipe.encode(np.zeros((13, 16, 32, 3), np.uint8))


def test_denoised_latents_outlive_a_fault_in_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toy_bundle.WEIGHTS, "w_vae", np.array([np.nan], np.float32))
    toy_bundle.write_bundle(tmp_path / "b")
    with mochi_aot.load(tmp_path / "b") as pipe:
        with pytest.raises(NumbersError, match="program 'decode'"):
            pipe(["a fox", "a owl"], num_inference_steps=4, seed=7)
        close(pipe.last_latents[0], expected(7, FOX))
        close(pipe.last_latents[1], expected(8, OWL))


def test_another_thread_is_told(pipe: VideoPipeline) -> None:
    """While a call runs; afterwards any thread may use it."""
    seen: list[BaseException | None] = []

    def use(*calls: Any) -> None:
        for call in calls:
            try:
                call()
                seen.append(None)
            except mochi_aot.MochiError as error:
                seen.append(error)

    def meanwhile(*_: Any) -> dict[str, Any]:
        calls = [lambda: pipe("a"), lambda: pipe.decode(np.zeros(SHAPE)), lambda: pipe.encode_prompt("a"), pipe.close]
        thread = threading.Thread(target=use, args=calls)
        thread.start()
        thread.join()
        return {}

    video = pipe("a fox", num_inference_steps=1, seed=7, callback_on_step_end=meanwhile)
    assert [type(error) for error in seen] == [BusyError] * 4
    message = f"{pipe.bundle.path} is in use by another thread; use it from one at a time, or load it once for each"
    assert str(seen[0]) == message
    seen.clear()
    thread = threading.Thread(target=use, args=[lambda: seen.append(pipe("a fox", num_inference_steps=1, seed=7))])  # type: ignore[arg-type, return-value]
    thread.start()
    thread.join()
    assert isinstance(seen[0], Video) and np.array_equal(seen[0].latents, video.latents)


PAGE = os.sysconf("SC_PAGE_SIZE")


def test_usage_is_what_was_read_since_the_last_call(path: Path, pipe: VideoPipeline) -> None:
    """A process that goes on for months keeps no span of what it did."""
    pipe("a fox", num_inference_steps=2, seed=1)
    used = pipe.usage()
    weights = sum(array.nbytes for array in toy_bundle.WEIGHTS.values())
    sizes = [file.stat().st_size for file in (path / "weights").iterdir()]
    assert weights <= used.bytes_read <= sum(sizes) and used.kernels is None
    assert used.from_disk <= sum(-(-size // PAGE) * PAGE for size in sizes)  # disks give whole pages
    assert pipe.usage() == Usage(0, 0, None)
    assert pipe._open is not None and pipe._open.ledger.spans == []


def test_resolved_arguments_are_those_of_the_record(path: Path, pipe: VideoPipeline) -> None:
    """Also while another thread makes a video; and what `__call__` would refuse is refused."""
    info = describe(path)
    assert info.geometries == ("16x32x13", "16x16x7")
    asked: dict[str, Any] = {"num_inference_steps": 2, "seed": 7, "num_frames": 7, "negative_prompt": "blurry"}
    seen: list[object] = []

    def meanwhile(*_: Any) -> dict[str, Any]:
        thread = threading.Thread(target=lambda: seen.append(info.resolve("a fox", **asked)))
        thread.start()
        thread.join()
        return {}

    video = pipe("a fox", **asked, callback_on_step_end=meanwhile)
    assert seen == [video.record["arguments"]] * 2
    with pytest.raises(OptionError, match="no geometry"):
        info.resolve("a fox", height=17)
    with pytest.raises(OptionError, match="NUL character"):
        info.resolve("a\0fox")


def test_after_close(path: Path) -> None:
    pipe = mochi_aot.load(path)
    pipe.close()
    pipe.close()
    for call in (
        lambda: pipe("a"),
        lambda: pipe.decode(np.zeros(SHAPE)),
        lambda: pipe.prepare_latents(1),
        pipe.__enter__,
    ):
        with pytest.raises(ClosedError, match=r"b was closed; load it again$"):
            call()


def test_closing_ends_reading_and_frees_the_weights(path: Path) -> None:
    before = threading.active_count()
    pipe = mochi_aot.load(path)
    pipe("a fox", num_inference_steps=1)
    pipe.close()
    assert threading.active_count() == before
    with mochi_aot.load(path) as again:
        again("a fox", num_inference_steps=1)


def test_two_bundles_at_once(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "one")
    toy_bundle.write_bundle(tmp_path / "two", mesh=(1, 2))
    with mochi_aot.load(tmp_path / "one") as one, mochi_aot.load(tmp_path / "two") as two:
        for seed in (1, 2):  # in turns
            for pipe in (one, two):
                close(pipe("a fox", num_inference_steps=4, seed=seed).latents, expected(seed, FOX))
        one.close()
        close(two("a owl", num_inference_steps=4, seed=3).latents, expected(3, OWL))


def test_what_cannot_be_loaded(path: Path, tmp_path: Path) -> None:
    with pytest.raises(mochi_aot.BundleError, match="none does not exist; expected the folder of a bundle"):
        mochi_aot.load(tmp_path / "none")
    with pytest.raises(mochi_aot.BackendError, match="device 'chips': expected cpu or cuda"):
        mochi_aot.load(path, device="chips")
