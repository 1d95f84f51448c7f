"""The sampling loop around a denoising step."""

from itertools import pairwise

from torch import Tensor

from mochi_aot.compiler.reference.programs import DenoiseStep


def sample(
    step: DenoiseStep, latents: Tensor, sigmas: Tensor, guidance_scale: float, prompts: dict[str, Tensor]
) -> Tensor:
    """Denoise `latents` from each sigma to the next.

    latents: float32 [1, C, T, h, w], noise at the first sigma; sigmas: float32 [steps + 1]; prompts: the last four
    inputs of `DenoiseStep` by name. Return the latents at the last sigma.
    """
    guidance = sigmas.new_full((1,), guidance_scale)
    for sigma, next_sigma in pairwise(sigmas):
        latents = step(latents, sigma.reshape(1), next_sigma.reshape(1), guidance, **prompts)
    return latents
