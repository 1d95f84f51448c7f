"""Videos of the trained model as chips would make them: its ttnn programs, run by ttnn's golden functions.

    python -m tests.semantic.chips --count 64

prints the rows that `mochi-bench quality` has no chips for, with the same columns.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import click
import numpy as np

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.lora.lora import read_lora
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from mochi_aot.compiler.reference.geometry import Geometry, parse_geometry
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import Embedding
from mochi_aot.runtime.tokenizer import PromptTokenizer
from mochi_aot.tools.benchmarks.quality import (
    Asked,
    PathQuality,
    Sampling,
    asked_prompts,
    measure_path,
    quality_numbers,
)
from mochi_aot.tools.benchmarks.quality_report import quality_report
from mochi_aot.tools.training.evaluate import GUIDANCE_SCALE, STEPS
from mochi_aot.tools.training.export import open_models
from mochi_aot.tools.training.sampling import GEOMETRY, Sampler
from mochi_aot.tools.training.shipped import SHAPES
from tests.ttnn_golden.lowered_model import DIT_ROLES, LoweredModel

Mesh = tuple[int, int]
# Mesh, dtype of matrices, dtype of what chips send in a step.
VARIANTS: tuple[tuple[Mesh, str, str], ...] = (
    ((1, 2), "bfloat16", "bfloat16"),
    ((2, 4), "bfloat16", "bfloat16"),
    ((2, 4), "bfloat8_b", "bfloat16"),
    ((2, 4), "bfloat8_b", "bfloat8_b"),
)


class ChipModel:
    """The trained model, lowered for a mesh with the plans that are chosen."""

    def __init__(
        self, mesh: Mesh, weights: str, links: str, geometry: Geometry = GEOMETRY, lora: Path | None = None
    ) -> None:
        plain, self.geometry = open_checkpoint(SHAPES), geometry
        loras = [] if lora is None else [read_lora(lora, plain.config.dit)]
        self.checkpoint = TunedCheckpoint(plain, loras)
        roles = [*DIT_ROLES, "decode"]
        self.lowered = LoweredModel.make(self.checkpoint, mesh, weights, roles, geometry, links)

    def video(
        self, words: str, seed: int, steps: int, guidance_scale: float = GUIDANCE_SCALE, negative: str = ""
    ) -> np.ndarray:
        """Frames uint8 [F, H, W, 3]."""
        sigmas = linear_quadratic_sigmas(steps)
        known = self.lowered.conditioning(self._encoded(words), self._encoded(negative), sigmas, guidance_scale)
        noise = seeded_latents(seed, (1, 12, *self.geometry.latent_size(self.checkpoint.config)))
        latents = self.lowered.denoised(noise, known, steps)
        frames: np.ndarray = self.lowered.run("decode", {"latents": latents})["frames"].numpy()
        return frames.reshape(self.geometry.frames, self.geometry.height, self.geometry.width, 3)

    @cached_property
    def _tokenizer(self) -> PromptTokenizer:
        return PromptTokenizer(self.checkpoint.tokenizer_json(), self.checkpoint.config.text_length)

    def _encoded(self, words: str) -> Embedding:
        ids, mask = self._tokenizer.encode(words)
        names = [source.name for source in self.lowered.programs["encode_text"].program.inputs]
        outputs = self.lowered.run("encode_text", dict(zip(names, (ids, mask), strict=True)))
        return Embedding(outputs["prompt_embeds"].float().numpy(), mask)


def measured(asked: Sequence[Asked], sampling: Sampling) -> Iterable[PathQuality]:
    """Of the reference in float32, and of each variant against it."""
    models = open_models(SHAPES, "cpu")
    sampler = Sampler(models.config, models.text, models.dit, models.decoder)
    words, seeds = [one.words for one in asked], [one.seed for one in asked]
    expected = sampler.videos(words, seeds, sampling.steps, sampling.guidance_scale, sampling.geometry)
    baseline: Callable[[int], np.ndarray] = expected.__getitem__
    yield measure_path("reference float32", asked, expected, baseline)
    for mesh, weights, links in VARIANTS:
        model = ChipModel(mesh, weights, links, sampling.geometry)
        name = f"ttnn {mesh[0]}x{mesh[1]} {weights}" + (f", links {links}" if links != "bfloat16" else "")
        videos = (model.video(one.words, one.seed, sampling.steps, sampling.guidance_scale) for one in asked)
        yield measure_path(name, asked, videos, baseline)


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=64, show_default=True, help="Held-out prompts.")
@click.option("--steps", type=click.IntRange(min=1), default=STEPS, show_default=True, help="Of denoising.")
@click.option("--guidance-scale", "scale", type=float, default=GUIDANCE_SCALE, show_default=True)
@click.option("--geometry", metavar="HxWxF", default="64x96x19", show_default=True, help="Of the video.")
def main(count: int, steps: int, scale: float, geometry: str) -> None:
    """Measure what chips' dtypes and meshes cost in quality, by ttnn's golden functions."""
    asked = asked_prompts(None, count)
    sampling = Sampling(parse_geometry(geometry), steps, scale)
    click.echo(quality_report(quality_numbers(list(measured(asked, sampling)), asked, sampling)))


if __name__ == "__main__":
    main()
