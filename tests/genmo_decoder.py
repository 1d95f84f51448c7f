"""diffusers' video decoder, corrected to drop frames where Genmo's own code drops them."""

from diffusers import AutoencoderKLMochi
from diffusers.models.autoencoders.autoencoder_kl_mochi import MochiUpBlock3D
from torch import Tensor


def corrected(vae: AutoencoderKLMochi) -> AutoencoderKLMochi:
    """Make `vae` decode as Genmo's code does, and return it.

    diffusers expands time in all stages and drops five frames once, at the end. Genmo's stages drop `time - 1` frames
    each, right after they expand time. All that computes is diffusers' own: only frames are taken away, and earlier.
    """
    vae.drop_last_temporal_frames = False
    for block in vae.decoder.up_blocks:
        block.register_forward_hook(_drop)
    return vae


def _drop(block: MochiUpBlock3D, _: object, output: tuple[Tensor, dict[str, Tensor]]) -> tuple[Tensor, object]:
    video, cache = output  # [B, C, T, H, W]
    return video[:, :, block.temporal_expansion - 1 :], cache
