"""The two guided denoising steps that are compared: a bundle's and diffusers'."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.tensor_files import Embedding

GUIDANCE_SCALE = 4.5
SIGMAS = np.array([0.6, 0.5], np.float32)
PROMPT_TOKENS, NEGATIVE_TOKENS = 64, 16


class PackageMissingError(MochiError):
    """A package that only this benchmark needs is not installed."""

    exit_code = ExitCode.DEVICE


@dataclass(frozen=True)
class Inputs:
    """What both steps are given: noise [1,12,T,h,w] and two prompts."""

    latents: np.ndarray
    positive: Embedding
    negative: Embedding


def make_inputs(pipeline: Pipeline, width: int) -> Inputs:
    """Return seeded noise and embeddings [1, length, width], padded with noise that must not matter."""
    shape = pipeline.latent_shape(pipeline.geometry())
    return inputs_of(shape, pipeline.bundle.manifest.text_length, width)


def inputs_of(latents: Sequence[int], length: int, width: int) -> Inputs:
    """Return the same for latents of this shape and prompts of `length` tokens, `width` wide."""
    positive, negative = (
        Embedding(seeded_latents(seed, (1, length, width)), np.arange(length)[None] < tokens)
        for seed, tokens in ((1, PROMPT_TOKENS), (2, NEGATIVE_TOKENS))
    )
    return Inputs(seeded_latents(0, tuple(latents)), positive, negative)


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

    def __init__(self, transformer: Any, inputs: Inputs, dtype: torch.dtype, device: str = "cpu") -> None:
        """Take diffusers' transformer, whose weights are of `dtype` and on `device`."""
        self._transformer, self._dtype, self._device = transformer.eval(), dtype, device
        pairs = (inputs.negative, inputs.positive)
        self._embeds = torch.from_numpy(np.concatenate([pair.embeds for pair in pairs])).to(device, dtype)
        self._mask = torch.from_numpy(np.concatenate([pair.mask for pair in pairs])).to(device)
        self._latents = torch.from_numpy(inputs.latents).to(device)

    @torch.inference_mode()
    def __call__(self) -> np.ndarray:
        """Return the latents after the step."""
        sigma, next_sigma = map(float, SIGMAS)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="In (CPU|CUDA) autocast")  # float32 is what it asks autocast for
            velocity = self._transformer(
                hidden_states=torch.cat([self._latents] * 2).to(self._dtype),
                encoder_hidden_states=self._embeds,
                timestep=torch.full((2,), 1000 * (1 - sigma), device=self._device),
                encoder_attention_mask=self._mask,
                return_dict=False,
            )[0]
        negative, positive = velocity.float().chunk(2)
        guided = negative + GUIDANCE_SCALE * (positive - negative)
        return (self._latents + (sigma - next_sigma) * guided).cpu().numpy()


def read_transformer(checkpoint: Path, dtype: str) -> Any:
    """Return diffusers' transformer with the weights of a checkpoint. Raise PackageMissingError."""
    return diffusers_transformer().from_pretrained(checkpoint / "transformer", torch_dtype=getattr(torch, dtype))


def diffusers_transformer() -> Any:
    """Return diffusers' class of the transformer. Raise PackageMissingError if diffusers is not installed."""
    return _of_diffusers("MochiTransformer3DModel")


def diffusers_autoencoder() -> Any:
    """Return diffusers' class of the autoencoder. Raise PackageMissingError if diffusers is not installed."""
    return _of_diffusers("AutoencoderKLMochi")


def _of_diffusers(name: str) -> Any:
    try:
        import diffusers
    except ModuleNotFoundError as error:
        advice = "pip install 'mochi-aot[compile,dev]'"
        raise PackageMissingError(
            f"this compares with diffusers, and {error.name} is not installed: {advice}"
        ) from error
    return getattr(diffusers, name)
