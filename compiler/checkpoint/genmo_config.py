"""Sizes of the networks from the shapes of a checkpoint in Genmo's layout, which has no config.

Where several tensors tell a size the majority counts, so that one wrong shape is reported as that one, and not as every
other. A size that no tensor tells is the published one; its tensors are then reported missing.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.naming import RGB, Shape
from mochi_aot.compiler.reference.config import DiTConfig, VAEConfig

KeyShapes = Mapping[str, Shape]

SPACE_FACTOR = 2  # of every stage of a VAE of Mochi


def read_dit_config(dit: KeyShapes) -> DiTConfig:
    """Return the sizes of the DiT from the shapes of dit.safetensors."""
    default = DiTConfig()
    head_dim = _size(dit, r"blocks\.\d+\.attn\.[qk]_norm_[xy]\.weight", 0, default.head_dim)
    width = _size(dit, r"blocks\.\d+\.attn\.proj_x\.weight", 0, default.width)
    return DiTConfig(
        layers=_count(dit, r"blocks\.(\d+)\.") or default.layers,
        heads=max(width // head_dim, 1),
        head_dim=head_dim,
        text_width=_size(dit, r"blocks\.\d+\.attn\.qkv_y\.weight", 1, default.text_width),
        caption_width=_size(dit, r"t5_y.*\.weight", 1, default.caption_width),
        hidden=_size(dit, r"blocks\.\d+\.mlp_x\.w2\.weight", 1, default.hidden),
        text_hidden=_size(dit, r"blocks\.\d+\.mlp_y\.w2\.weight", 1, default.text_hidden),
        in_channels=_size(dit, r"x_embedder\.proj\.weight", 1, default.in_channels),
        patch=_size(dit, r"x_embedder\.proj\.weight", 2, default.patch),
        frequency_width=_size(dit, r"t_embedder\.mlp\.0\.weight", 1, default.frequency_width),
    )


def read_vae_config(decoder: KeyShapes, encoder: KeyShapes | None) -> VAEConfig:
    """Return the sizes of the VAE from the shapes of decoder.safetensors and encoder.safetensors, if there is one.

    Raise CheckpointError.

    Not in the shapes, and therefore the published ones: the groups of the norms, the width of the encoder's attention
    heads, and the statistics of the latents.
    """
    default = VAEConfig()
    latent = _size(decoder, r"blocks\.0\.0\.weight", 1, default.latent_channels)
    if latent != default.latent_channels:
        raise CheckpointError(
            f"decoder.safetensors has {latent} latent channels: Genmo's layout does not hold their statistics, "
            f"and those of Mochi are for {default.latent_channels}"
        )
    channels, res = _decoder_stages(decoder)
    found = VAEConfig(latent_channels=latent, decoder_channels=channels, decoder_res=res)
    if encoder is None:
        factors = _time_factors(decoder, channels)
        space = (SPACE_FACTOR,) * len(factors)
        return replace(found, encoder_channels=(), encoder_res=(), time_factors=factors, space_factors=space)
    first, stages, last = _encoder_stages(encoder)
    convs = [f"layers\\.{layer}\\.layers\\.0\\.weight" for layer in stages]
    counts = [_count(encoder, rf"layers\.{layer}\.layers\.(\d+)\.") - 1 for layer in stages]
    return replace(
        found,
        encoder_channels=tuple(_width(encoder, f"layers.{layer}.") for layer in (1, *stages)),
        encoder_res=(first, *counts, last),
        time_factors=tuple(_size(encoder, conv, 2, 1) for conv in convs),
        space_factors=tuple(_size(encoder, conv, 3, 1) for conv in convs),
        fourier_features=_size(encoder, r"layers\.0\.weight", 1, RGB + default.fourier_features) - RGB,
    )


def _time_factors(decoder: KeyShapes, channels: Shape) -> Shape:
    """Return by how much each stage of the decoder lengthens a video, output end first: its last layer makes the
    channels of the next stage that many times, for each of the pixels that it makes of one."""
    made = [_size(decoder, rf"blocks\.{stage}\.proj\.weight", 0, 0) for stage in range(1, len(channels))]
    into = channels[:-1][::-1]
    return tuple(max(rows // (width * SPACE_FACTOR**2), 1) for rows, width in zip(made, into, strict=True))[::-1]


def _decoder_stages(shapes: KeyShapes) -> tuple[Shape, Shape]:
    """Return the channels and residual blocks of the decoder, output end first."""
    last = _count(shapes, r"blocks\.(\d+)\.") - 1
    ups = [_count(shapes, rf"blocks\.{stage}\.blocks\.(\d+)\.") for stage in range(1, last)]
    res = [_count(shapes, r"blocks\.0\.(\d+)\.") - 1, *ups, _count(shapes, rf"blocks\.{last}\.(\d+)\.")]
    channels = [_width(shapes, f"blocks.{stage}.") for stage in range(1, last + 1)]
    return tuple(channels[::-1]), tuple(res[::-1])


def _encoder_stages(shapes: KeyShapes) -> tuple[int, list[int], int]:
    """Return the residual blocks before the stages, the layer numbers of the stages, residual blocks after them."""
    stages = sorted({int(match[1]) for key in shapes if (match := re.match(r"layers\.(\d+)\.layers\.", key))})
    layers = _count(shapes, r"layers\.(\d+)\.")
    if not stages:
        return layers - 1, [], 0
    return stages[0] - 1, stages, layers - 1 - stages[-1]


def _size(shapes: KeyShapes, pattern: str, dim: int, default: int) -> int:
    """Return the commonest size of `dim` among the keys that match `pattern` as a whole."""
    sizes = Counter(shape[dim] for key, shape in shapes.items() if len(shape) > dim and re.fullmatch(pattern, key))
    return sizes.most_common(1)[0][0] if sizes else default


def _width(shapes: KeyShapes, prefix: str) -> int:
    """Return the channels of the residual blocks below `prefix`."""
    return _size(shapes, rf"{re.escape(prefix)}(.*\.)?stack\.\d+\.(weight|bias)", 0, 1)


def _count(shapes: KeyShapes, pattern: str) -> int:
    """Return one more than the largest number that `pattern` finds at the start of a key; 0 if it finds none."""
    return max((int(match[1]) + 1 for key in shapes if (match := re.match(pattern, key))), default=0)
