"""One guided denoising step: a bundle's against the same step with diffusers' transformer."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.compile import Job, compile_bundle
from mochi_aot.compiler.partition.mesh import parse_mesh
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.tensor_files import Embedding
from mochi_aot.tools.benchmarks.overhead import instruction_overhead
from mochi_aot.tools.benchmarks.timing import Comparison, compare

GUIDANCE_SCALE = 4.5
SIGMAS = np.array([0.6, 0.5], np.float32)
PROMPT_TOKENS, NEGATIVE_TOKENS = 64, 16

# The largest difference of an update over its largest value. float32: rounding. bfloat16: an element is rounded about
# twenty times a layer, by 2^-9 each, and guidance weighs the two rows with 4.5 and -3.5.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}


@dataclass(frozen=True)
class Size:
    """What is measured: a preset of the synthetic checkpoints and a video size."""

    preset: str
    geometry: Geometry


SIZES = {
    "tiny": Size("tiny", Geometry(32, 48, 7)),
    "small": Size("bench", Geometry(240, 432, 19)),
    "middle": Size("middle", Geometry(112, 192, 13)),
}


class ResultsDifferError(MochiError):
    """The two contenders do not compute the same, so that comparing their times would mean nothing."""

    exit_code = ExitCode.FAULT


@dataclass(frozen=True)
class StepResult:
    """What was measured. Seconds; `instruction_overhead` is what the runtime adds to the kernel of one instruction."""

    size: str
    preset: str
    geometry: str
    dtype: str
    difference: float
    tolerance: float
    times: Comparison
    flops: int
    instructions: int
    instruction_overhead: float


def measure_step(
    folder: Path, size_name: str, dtype: str, repetitions: int, report: Callable[[str], None]
) -> StepResult:
    """Makes what is measured in `folder`, checks that both steps give the same, then times them in turns.

    `report` is told each phase. Raises MochiError without diffusers, ResultsDifferError.
    """
    diffusers_transformer()
    size = SIZES[size_name]
    report("writing a checkpoint and compiling it")
    checkpoint, bundle = prepare(folder, size, dtype)
    pipeline = Pipeline.open(bundle)
    inputs = make_inputs(pipeline, PRESETS[size.preset].dit.caption_width)
    ours, theirs = BundleStep(pipeline, inputs), DiffusersStep(checkpoint, inputs, dtype)
    report("comparing the results")
    difference = check_equal(ours(), theirs(), inputs.latents, dtype)
    report("timing")
    times = compare(ours, theirs, repetitions)
    denoise = pipeline.bundle.program("denoise", pipeline.geometry())
    return StepResult(
        size=size_name,
        preset=size.preset,
        geometry=str(size.geometry),
        dtype=dtype,
        difference=difference,
        tolerance=TOLERANCE[dtype],
        times=times,
        flops=denoise.stats.flops,
        instructions=len(denoise.instructions),
        instruction_overhead=instruction_overhead(repetitions),
    )


@dataclass(frozen=True)
class Inputs:
    """What both contenders are given: noise [1,12,T,h,w] and two prompts."""

    latents: np.ndarray
    positive: Embedding
    negative: Embedding


def prepare(folder: Path, size: Size, dtype: str) -> tuple[Path, Path]:
    """Writes a checkpoint of `dtype` and compiles it for one device; returns the paths of checkpoint and bundle."""
    checkpoint, bundle = folder / "checkpoint", folder / "bundle"
    write_checkpoint(checkpoint, PRESETS[size.preset], "diffusers", dtype=getattr(torch, dtype))
    compile_bundle(open_checkpoint(checkpoint), Job(parse_mesh("1x1"), (size.geometry,), dtype=dtype), bundle)
    return checkpoint, bundle


def make_inputs(pipeline: Pipeline, width: int) -> Inputs:
    """Seeded noise and embeddings [1, length, width], padded with noise that must not matter."""
    length = pipeline.bundle.manifest.text_length
    positive, negative = (
        Embedding(seeded_latents(seed, (1, length, width)), np.arange(length)[None] < tokens)
        for seed, tokens in ((1, PROMPT_TOKENS), (2, NEGATIVE_TOKENS))
    )
    return Inputs(seeded_latents(0, pipeline.latent_shape(pipeline.geometry())), positive, negative)


class BundleStep:
    """The step as mochi-run makes it: latents are uploaded, the denoising program runs, latents are fetched."""

    def __init__(self, pipeline: Pipeline, inputs: Inputs) -> None:
        self._pipeline, self._latents = pipeline, inputs.latents
        self._conditioning = pipeline.condition(
            inputs.positive, inputs.negative, SIGMAS, GUIDANCE_SCALE, pipeline.geometry()
        )

    def __call__(self) -> np.ndarray:
        return self._pipeline.denoise(self._latents, self._conditioning)


class DiffusersStep:
    """The step as diffusers' MochiPipeline makes it: one forward pass of both prompts, guidance, Euler update."""

    def __init__(self, checkpoint: Path, inputs: Inputs, dtype: str) -> None:
        self._dtype: torch.dtype = getattr(torch, dtype)
        transformer = diffusers_transformer().from_pretrained(checkpoint / "transformer", torch_dtype=self._dtype)
        self._transformer = transformer.eval()
        pairs = (inputs.negative, inputs.positive)
        self._embeds = torch.from_numpy(np.concatenate([pair.embeds for pair in pairs])).to(self._dtype)
        self._mask = torch.from_numpy(np.concatenate([pair.mask for pair in pairs]))
        self._latents = torch.from_numpy(inputs.latents)

    @torch.inference_mode()
    def __call__(self) -> np.ndarray:
        sigma, next_sigma = map(float, SIGMAS)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="In CPU autocast")  # float32 is what it asks autocast for
            velocity = self._transformer(
                hidden_states=torch.cat([self._latents] * 2).to(self._dtype),
                encoder_hidden_states=self._embeds,
                timestep=torch.full((2,), 1000 * (1 - sigma)),
                encoder_attention_mask=self._mask,
                return_dict=False,
            )[0]
        negative, positive = velocity.float().chunk(2)
        guided = negative + GUIDANCE_SCALE * (positive - negative)
        return (self._latents + (sigma - next_sigma) * guided).numpy()


def diffusers_transformer() -> Any:
    """diffusers' class of the transformer. Raises MochiError if it is not installed."""
    try:
        from diffusers import MochiTransformer3DModel
    except ModuleNotFoundError as error:
        advice = "pip install 'mochi-aot[compile,dev]'"
        raise MochiError(f"this compares with diffusers, and {error.name} is not installed: {advice}") from error
    return MochiTransformer3DModel


def check_equal(ours: np.ndarray, theirs: np.ndarray, latents: np.ndarray, dtype: str) -> float:
    """The largest difference of the two updates over the largest value. Raises ResultsDifferError above TOLERANCE."""
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs - latents).max())
    if not difference <= TOLERANCE[dtype]:
        raise ResultsDifferError(
            f"the bundle's step differs from diffusers' by {difference:.2g} relative, expected at most "
            f"{TOLERANCE[dtype]:.2g} in {dtype}: not timed"
        )
    return difference
