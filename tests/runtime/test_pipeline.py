"""The pipeline's own logic, on a toy_bundle bundle whose results numpy can tell."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.delta import StyledBundle
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Program, TensorSpec
from mochi_aot.runtime import pipeline as pipeline_module
from mochi_aot.runtime import residency
from mochi_aot.runtime.backend import Executable, Wait, Watch, no_wait
from mochi_aot.runtime.errors import BackendError, InputFileError, Interrupted, NumbersError, OptionError
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline, step_chunks
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import Embedding
from mochi_aot.runtime.torch import TorchBackend
from tests.runtime import toy_bundle

# The toy_bundle loop does some ten float32 roundings a step on numbers below 10; 1e-6 relative each would be ten times
# too many.
TOLERANCE = 1e-5


class Spy:
    """The torch backend, with notes of what was asked of it."""

    def __init__(self, mesh: tuple[int, int] = (1, 1)) -> None:
        self._backend = TorchBackend(*mesh)
        self.loaded: set[str] = set()
        self.log: list[str] = []
        self.memory: int | None = None
        self.on_host = True

    def load_weights(self, bundle: Bundle, names: Iterable[str], wait: Wait = no_wait) -> None:
        names = list(names)
        assert not self.loaded.intersection(names), "loaded twice"
        self.loaded.update(names)
        self._backend.load_weights(bundle, names, wait)

    def free_weights(self, names: Iterable[str]) -> None:
        names = list(names)
        assert self.loaded.issuperset(names), "freed without being loaded"
        self.loaded.difference_update(names)
        self._backend.free_weights(names)

    def memory_bytes(self) -> int | None:
        return self.memory

    def load_program(self, program: Program) -> Executable:
        self.log.append(f"load {program.name}")
        return SpyExecutable(program.name, self._backend.load_program(program), self)

    def upload(self, array: np.ndarray, spec: TensorSpec) -> Any:
        return self._backend.upload(array, spec)

    def fetch(self, value: Any, spec: TensorSpec) -> np.ndarray:
        return self._backend.fetch(value, spec)

    def nonfinite(self, value: Any) -> list[str]:
        return self._backend.nonfinite(value)


class SpyExecutable:
    def __init__(self, name: str, executable: Executable, spy: Spy) -> None:
        self._name, self._executable, self._spy = name, executable, spy

    def run(self, inputs: Mapping[str, Any], watch: Watch | None = None) -> dict[str, Any]:
        self._spy.log.append(f"run {self._name} with {' '.join(sorted(self._spy.loaded))}".strip())
        return self._executable.run(inputs, watch)


def spied(tmp_path: Path) -> tuple[Pipeline, Spy]:
    toy_bundle.write_bundle(tmp_path / "bundle")
    spy = Spy()
    return Pipeline(Bundle.open(tmp_path / "bundle"), spy), spy


def embedding(seed: int, tokens: int) -> Embedding:
    """Random values at masked positions too: none of them may have an effect."""
    embeds = np.random.default_rng(seed).standard_normal((1, toy_bundle.LENGTH, toy_bundle.WIDTH)).astype(np.float32)
    return Embedding(embeds, np.arange(toy_bundle.LENGTH)[None] < tokens)


@pytest.mark.parametrize("mesh", [(1, 1), (1, 2), (2, 4)])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 7])  # below, at and above the capacity of 3, and of two tables
def test_latents_are_what_numpy_says(tmp_path: Path, steps: int, mesh: tuple[int, int]) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle", mesh)
    pipeline = Pipeline.open(tmp_path / "bundle")
    geometry = pipeline.geometry()
    positive, negative = embedding(1, 5), embedding(2, 0)
    sigmas = linear_quadratic_sigmas(steps)
    noise = seeded_latents(3, pipeline.latent_shape(geometry))
    done: list[tuple[int, int]] = []
    conditioning = pipeline.condition(positive, negative, sigmas, 4.5, geometry)
    latents = pipeline.denoise(noise, conditioning, lambda *event: done.append(event))
    masked = [item.embeds * item.mask[..., None] for item in (positive, negative)]
    expected = toy_bundle.expected_latents(noise, sigmas, 4.5, *masked)
    np.testing.assert_allclose(latents, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert latents.dtype == np.float32
    assert done == [(step + 1, steps) for step in range(steps)]


def test_a_target_that_counts_tokens_refuses_masks_with_holes(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle", target="ttnn")
    pipeline = Pipeline(Bundle.open(tmp_path / "bundle"), Spy())
    whole, sigmas = embedding(1, 5), linear_quadratic_sigmas(2)
    holes = Embedding(whole.embeds, np.arange(toy_bundle.LENGTH)[None] != 2)
    pipeline.condition(whole, embedding(2, 0), sigmas, 1.0, pipeline.geometry())
    with pytest.raises(InputFileError, match=r"^negative_prompt_attention_mask has a one after zeros, at token 3"):
        pipeline.condition(whole, holes, sigmas, 1.0, pipeline.geometry())


def test_prompt_embeddings(tmp_path: Path) -> None:
    pipeline, spy = spied(tmp_path)
    seen = pipeline.encode_prompt("a red fox")
    ids = np.array([[3, 4, 5, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(seen.mask, ids > 0)
    np.testing.assert_array_equal(seen.embeds, toy_bundle.expected_embeds(ids, ids > 0))
    assert not pipeline.encode_prompt("").mask.any()
    assert pipeline.encode_prompt("a red fox") is seen
    assert len([line for line in spy.log if line.startswith("run")]) == 2


def test_remembered_prompts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "_KEPT_EMBEDDINGS", 2)
    pipeline, spy = spied(tmp_path)
    for prompt in ("a", "red", "fox", "fox", "red", "a"):
        pipeline.encode_prompt(prompt)
    assert len([line for line in spy.log if line.startswith("run")]) == 4


@pytest.mark.parametrize("size", range(len(toy_bundle.SIZES)))
def test_decode_and_encode(tmp_path: Path, size: int) -> None:
    pipeline, _ = spied(tmp_path)
    geometry = pipeline.bundle.manifest.geometries[size]
    latents = seeded_latents(1, pipeline.latent_shape(geometry))
    frames = pipeline.decode(latents, geometry)
    assert frames.shape == (*toy_bundle.SIZES[size][2:], *toy_bundle.SIZES[size][:2], 3)
    np.testing.assert_array_equal(frames, toy_bundle.expected_frames(latents))
    encoded = pipeline.encode(frames, geometry)
    assert encoded.shape == latents.shape and encoded.dtype == np.float32
    blocks = frames[::6, ::8, ::8].transpose(3, 0, 1, 2) / 255
    # A mean over 64 equal float32 numbers of at most 255, then one product.
    np.testing.assert_allclose(encoded[0], np.concatenate([blocks] * 4), atol=1e-5)


def test_only_the_running_phase_has_its_weights_loaded(tmp_path: Path) -> None:
    pipeline, spy = spied(tmp_path)
    first, second = pipeline.bundle.manifest.geometries

    def video(prompt: str, geometry: Any) -> None:
        sigmas = linear_quadratic_sigmas(4)
        positive, negative = pipeline.encode_prompt(prompt), pipeline.encode_prompt("")
        conditioning = pipeline.condition(positive, negative, sigmas, 1.0, geometry)
        pipeline.decode(pipeline.denoise(seeded_latents(0, pipeline.latent_shape(geometry)), conditioning), geometry)

    video("a fox", first)
    phases = ["run prepare_prompt with w_prompt", *["run prepare_steps with w_time"] * 2]
    phases += [*["run denoise with w_dit"] * 4, "run decode with w_vae"]
    text = "run encode_text with text"
    assert [line for line in spy.log if line.startswith("run")] == [text, text, *phases]
    assert len([line for line in spy.log if line.startswith("load")]) == 5  # each program is resolved once

    spy.log.clear()
    video("a fox", first)  # the prompt is known; nothing is resolved again
    assert spy.log == phases

    spy.log.clear()
    video("a red fox", second)  # loaded again for a new prompt; programs that both geometries share are not
    assert [line for line in spy.log if line.startswith("run")] == [text, *phases]
    assert [line for line in spy.log if line.startswith("load")] == ["load denoise", "load decode"]


def test_where_all_weights_fit_they_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "all_weights_fit", lambda *_: True)
    pipeline, spy = spied(tmp_path)
    geometry = pipeline.geometry()
    sigmas = linear_quadratic_sigmas(4)
    for prompt in ("a fox", "a red fox"):
        positive, negative = pipeline.encode_prompt(prompt), pipeline.encode_prompt("")
        conditioning = pipeline.condition(positive, negative, sigmas, 1.0, geometry)
        pipeline.denoise(seeded_latents(0, pipeline.latent_shape(geometry)), conditioning)
        assert spy.loaded == {"text", "w_prompt", "w_time", "w_dit"}  # the spy refuses what is loaded twice


def brighter(base: Bundle, amount: float) -> StyledBundle:
    return StyledBundle(base, toy_bundle.write_brighter(base.path.parent / f"{amount}", base.path, amount))


@pytest.mark.parametrize(("free", "times"), [(1 << 20, 1), (0, 2)], ids=["room", "no room"])
def test_weights_that_were_made_again_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, times: int
) -> None:
    """Where there is room, until another delta comes."""
    made = []
    addition = StyledBundle.addition
    monkeypatch.setattr(StyledBundle, "addition", lambda *asked: made.append(asked) or addition(*asked))
    monkeypatch.setattr(residency, "free_memory", lambda: free)
    pipeline, spy = spied(tmp_path)
    base, geometry = pipeline.bundle, pipeline.geometry()
    pipeline = Pipeline(brighter(base, 2.0), spy)
    for prompt in ("red", "red fox"):
        seen = pipeline.encode_prompt(prompt)
        pipeline.condition(seen, seen, linear_quadratic_sigmas(4), 1.0, geometry)
    assert len(made) == times and spy.loaded == {"w_time", *(["text"] if times == 1 else [])}
    before = pipeline.encode_prompt("red fox").embeds
    assert pipeline.use(brighter(base, 3.0)) == 1
    after = pipeline.encode_prompt("red fox")
    # Numbers below 8 in float32, each rounded once or twice.
    np.testing.assert_allclose(after.embeds - before, after.mask[..., None] * np.ones_like(before), atol=2e-6)
    assert pipeline.use(base) == 1 and len(made) == times + 1
    assert not pipeline._staying(geometry)


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_callback_that_raises_stops_between_steps(tmp_path: Path, stop_after: int) -> None:
    pipeline, spy = spied(tmp_path)
    geometry = pipeline.geometry()
    conditioning = pipeline.condition(embedding(1, 3), embedding(2, 3), linear_quadratic_sigmas(8), 1.0, geometry)

    def stop(done: int, steps: int) -> None:
        if done == stop_after:
            raise Interrupted

    with pytest.raises(Interrupted):
        pipeline.denoise(seeded_latents(0, pipeline.latent_shape(geometry)), conditioning, stop)
    assert sum("denoise" in line for line in spy.log if line.startswith("run")) == stop_after


@given(st.integers(1, 40), st.integers(1, 12), st.floats(0, 20, width=32))
def test_step_chunks_cover_the_schedule_in_order(steps: int, capacity: int, guidance: float) -> None:
    sigmas = np.linspace(1, 0, steps + 1, dtype=np.float32)
    chunks = step_chunks(sigmas, guidance, capacity)
    assert len(chunks) == math.ceil(steps / capacity)
    for name, expected in (("sigma", sigmas[:-1]), ("next_sigma", sigmas[1:]), ("guidance_scale", [guidance] * steps)):
        rows = np.concatenate([chunk[name] for chunk in chunks])
        assert rows.dtype == np.float32 and {chunk[name].shape for chunk in chunks} == {(capacity,)}
        np.testing.assert_array_equal(rows[:steps], expected)
        np.testing.assert_array_equal(rows[steps:], rows[steps - 1])


def test_misshapen_arrays(tmp_path: Path) -> None:
    pipeline, _ = spied(tmp_path)
    with pytest.raises(OptionError, match=r"latents has shape \[1, 2\], decode wants \[1, 12, 3, 2, 4\]"):
        pipeline.decode(np.zeros((1, 2), np.float32), pipeline.geometry())


def test_missing_programs_are_named(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle", without=["encode"])
    pipeline = Pipeline.open(tmp_path / "bundle")
    geometry = pipeline.geometry()
    pipeline.decode(seeded_latents(0, pipeline.latent_shape(geometry)), geometry)  # the others work
    with pytest.raises(BundleError, match="no program 'encode'; it has decode, denoise, "):
        pipeline.encode(np.zeros((13, 16, 32, 3), np.uint8), geometry)


def test_unknown_geometry_lists_the_known(tmp_path: Path) -> None:
    pipeline, _ = spied(tmp_path)
    assert pipeline.geometry("16x16x7") == pipeline.bundle.manifest.geometries[1]
    with pytest.raises(OptionError, match="no geometry '8x8x1' in the bundle; it has 16x32x13, 16x16x7"):
        pipeline.geometry("8x8x1")


def test_other_targets(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle", target="abacus")
    with pytest.raises(BackendError, match="compiled for target 'abacus'; this version runs torch and ttnn"):
        Pipeline.open(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("weight", "program"),
    [
        ("text", "encode_text"),
        ("w_prompt", "prepare_prompt"),
        ("w_time", "prepare_steps"),
        ("w_dit", "denoise"),
        ("w_vae", "decode"),
    ],
)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("check", ["on the host", "on devices", "every instruction"])
def test_the_first_program_that_makes_no_numbers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: str, program: str, number: float, check: str
) -> None:
    """Where values are on devices, those between programs are fetched only once the latents are known to be bad."""
    spoilt = np.full_like(toy_bundle.WEIGHTS[weight], number)
    monkeypatch.setitem(toy_bundle.WEIGHTS, weight, spoilt)
    toy_bundle.write_bundle(tmp_path / "bundle")
    spy = Spy()
    spy.on_host = check == "on the host"
    pipeline = Pipeline(Bundle.open(tmp_path / "bundle"), spy, check_values=check == "every instruction")
    geometry = pipeline.geometry()
    with pytest.raises(NumbersError) as caught:
        positive, negative = pipeline.encode_prompt("a red fox"), pipeline.encode_prompt("")
        conditioning = pipeline.condition(positive, negative, linear_quadratic_sigmas(4), 6.0, geometry)
        latents = pipeline.denoise(seeded_latents(1, pipeline.latent_shape(geometry)), conditioning)
        pipeline.decode(latents, geometry)
    message = str(caught.value)
    assert message.startswith(f"program {program!r}")
    assert ("step 1 of 4" in message) == (program == "denoise" and check != "on devices")
    assert (f"it reads {weight}" in message) == (check == "every instruction")


def test_a_video_that_is_not_finite_is_not_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, spy = spied(tmp_path)
    spy.on_host = False
    fetch = spy.fetch
    monkeypatch.setattr(spy, "fetch", lambda value, spec: fetch(value, spec) + np.float32(np.inf))
    height, width, frames = toy_bundle.SIZES[0]
    with pytest.raises(NumbersError, match=r"^program 'encode' is the first that made .* \(inf\); --check-values"):
        pipeline.encode(np.zeros((frames, height, width, 3), np.uint8), pipeline.geometry())
