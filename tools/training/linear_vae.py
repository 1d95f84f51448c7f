"""Encoder and decoder that begin as the best linear ones, by the principal components of patches.

A latent pixel stands for 6 frames of 8 x 8 pixels. Its 12 numbers are the first principal components of such patches of
clips, at the published mean and spread. Every layer between carries, on its residual path, as many of the components of
its own smaller patch as it has channels. Residual branches end in zeros. What is not linear is made nearly so:
- The encoder's last norm divides by the scale of a group of channels over the frame, and takes the group's mean away.
  Three channels make a group here: a component, its negative, and a constant large beside them. Mean and scale are then
  nearly constants, which the norm's own weights undo.
- silu(x) - silu(-x) = x.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mochi_aot.compiler.reference import ops
from mochi_aot.compiler.reference.config import VAEConfig
from mochi_aot.compiler.reference.vae import CausalConv3d, ResBlock
from mochi_aot.compiler.reference.vae_decoder import Decoder, UpStage, depth_to_space
from mochi_aot.compiler.reference.vae_encoder import DownStage, Encoder, TimeAttention
from mochi_aot.tools.training.settings import TrainingError

CARRIER = 16.0  # the constant of a group, in standard deviations of the components
QUIET = 0.25  # size of what goes through the encoder's last silu, which is nearly a straight line there
LOG_VARIANCE = -4.5  # of the encoder's noise, beside that of the latents
# Of a patch: frames 3 x 2, rows 2 x 2 x 2, columns 2 x 2 x 2, RGB; the outer numbers are merged last.
PATCH = (3, 2, 2, 2, 2, 2, 2, 2, 3)
SHARED, PIXELS = (1, 3, 4, 6, 7, 8), (4, 7, 8)  # dims of PATCH inside what two stages and one stage merge


@dataclass(frozen=True)
class Components:
    """Principal components of patches: float32 mean [1152], unit vectors [1152, n], standard deviations [n]."""

    mean: Tensor
    vectors: Tensor
    std: Tensor


def principal_components(video: Tensor, count: int) -> Components:
    """Of clips, float32 [n, 6k + 1, H, W, 3]; the first frame stands for six."""
    whole = torch.cat([video[:, :1].expand(-1, 5, -1, -1, -1), video], dim=1)
    batch, frames, height, width, rgb = whole.shape
    grid = whole.reshape(batch, frames // 6, 6, height // 8, 8, width // 8, 8, rgb)
    patches = grid.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4).flatten(0, 3)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))  # rising
    vectors = vectors.flip(1)[:, :count]
    vectors = torch.where(vectors.sum(dim=0) < 0.0, -vectors, vectors)
    return Components(patches.mean(dim=0), vectors, values.flip(0)[:count].sqrt())


@torch.no_grad()
def begin_linear(encoder: Encoder, decoder: Decoder, config: VAEConfig, components: Components) -> None:
    """Set all weights on the way from pixels to latents and back."""
    _check(config)
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, ResBlock):
            _clear(module.conv2)
        elif isinstance(module, TimeAttention):
            _clear(module.out)
    # What two stages see of a patch, in the directions that matter most to the latents.
    vectors = (components.vectors * components.std).reshape(*PATCH, -1)
    shared = vectors.permute(*SHARED, *(d for d in range(len(PATCH)) if d not in SHARED), -1).flatten(6).flatten(0, 5)
    _encode(encoder, config, components, _directions(shared, config.encoder_channels[2]))
    _decode(decoder, config, components, _directions(shared, config.decoder_channels[2]))


def _check(config: VAEConfig) -> None:
    factors = (config.time_factors, config.space_factors)
    least = (3, 12, 12, 3 * config.groups)
    if factors != ((1, 2, 3), (2, 2, 2)) or config.latent_channels >= config.groups:
        raise TrainingError(f"a linear VAE merges 1, 2 and 3 frames and 2 x 2 pixels thrice, not {factors}")
    if any(own < need for own, need in zip(config.encoder_channels, least, strict=True)):
        raise TrainingError(f"encoder channels {config.encoder_channels} are too few; {least} are needed at least")
    if config.encoder_channels[3] != least[3]:
        raise TrainingError(f"the encoder's last channels are {config.encoder_channels[3]}, not {least[3]}")


def _clear(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def _directions(shared: Tensor, most: int) -> Tensor:
    """Return the unit vectors, at most `most`, that span the columns of `shared` best: [96, n]"""
    left, _, _ = torch.linalg.svd(shared, full_matrices=False)
    return left[:, :most]


def _encode(encoder: Encoder, config: VAEConfig, components: Components, directions: Tensor) -> None:
    for module in (encoder.proj_in, *(stage.conv for stage in _down(encoder))):
        _clear(module)
    first, second, third = (stage.conv for stage in _down(encoder))
    encoder.proj_in.weight[:3, :3] = torch.eye(3)
    pixels = torch.eye(12).reshape(12, 2, 2, 3)  # [out, y, x, c]
    first.weight[:12, :3, 0] = pixels.permute(0, 3, 1, 2)
    ways = directions.shape[1]
    basis = directions.T.reshape(ways, 2, 2, 2, 2, 2, 3)  # [out, t, y, y1, x, x1, c]
    second.weight[:ways, :12] = basis.permute(0, 3, 5, 6, 1, 2, 4).reshape(ways, 12, 2, 2, 2)
    rows = components.vectors / components.std  # [1152, n]
    outer = rows.reshape(*PATCH, -1).permute(-1, 0, 2, 5, *SHARED).reshape(-1, 3, 2, 2, 96) @ directions
    offset = -components.mean @ rows
    _last_convolution(third, outer.movedim(-1, 1), offset)
    _last_norm(encoder, config, len(offset))


def _last_convolution(conv: CausalConv3d, outer: Tensor, offset: Tensor) -> None:
    """Set groups of a component, its negative, and a constant."""
    weight, bias = conv.weight, conv.bias
    assert bias is not None
    count, ways = outer.shape[:2]
    for channel, sign in ((0, 1.0), (1, -1.0)):
        weight[channel : 3 * count : 3, :ways] = sign * outer
        bias[channel : 3 * count : 3] = sign * offset
    bias[2 : 3 * count : 3] = CARRIER


def _last_norm(encoder: Encoder, config: VAEConfig, count: int) -> None:
    """Undo the norm of the groups that carry components; one of the others holds a one, which stands for a bias."""
    norm, proj = encoder.norm_out, encoder.proj_out
    # Of x, -x and the constant A, with the mean square of x 1: mean A / 3, variance (2 + A^2) / 3 - A^2 / 9.
    scale = ((2.0 + CARRIER**2) / 3.0 - (CARRIER / 3.0) ** 2) ** 0.5
    norm.weight.fill_(QUIET * scale)
    norm.bias.zero_()
    norm.bias[: 3 * count] = QUIET * CARRIER / 3.0
    one = 3 * count
    norm.bias[one] = 1.0
    _clear(proj)
    std, mean = torch.tensor(config.latents_std), torch.tensor(config.latents_mean)
    for index in range(count):
        proj.weight[index, 3 * index] = std[index] / QUIET
        proj.weight[index, 3 * index + 1] = -std[index] / QUIET
    constant = F.silu(torch.ones(()))
    proj.weight[:count, one] = mean / constant
    proj.weight[count:, one] = (2.0 * std.log() + LOG_VARIANCE) / constant


def _decode(decoder: Decoder, config: VAEConfig, components: Components, directions: Tensor) -> None:
    """Each level carries its part of the patch turned at random, and a constant for each channel.

    Norms see groups of channels: mixed so, every group sees all of the patch, and its constants keep the frame's mean.
    """
    channels = config.decoder_channels
    count, ways = len(components.std), directions.shape[1]
    std, mean = torch.tensor(config.latents_std), torch.tensor(config.latents_mean)
    levels = [_level(channels[3], count), _level(channels[2], ways), _level(channels[1], 12)]
    turn, shift = levels[0]
    decoder.conv_in.weight.copy_(turn / std)
    decoder.conv_in.bias.copy_(shift - turn @ (mean / std))
    outer = (components.vectors * components.std).reshape(*PATCH, -1).permute(0, 2, 5, *SHARED, -1)
    whole = components.mean.reshape(PATCH).permute(0, 2, 5, *SHARED).reshape(12, 96)
    maps = directions.T @ outer.reshape(12, 96, count)  # [12 places, ways, count]
    _unfold(_up(decoder)[0], levels[0], levels[1], maps, whole @ directions)
    inner = directions.reshape(2, 2, 2, 2, 2, 3, ways).permute(0, 1, 3, 2, 4, 5, 6).reshape(8, 12, ways)
    _unfold(_up(decoder)[1], levels[1], levels[2], inner, torch.zeros(8, 12))
    pairs = torch.zeros(channels[0], 3)
    for channel in range(channels[0] // 6 * 6):
        pairs[channel, channel // 2 % 3] = 1.0 - 2.0 * (channel % 2)
    pixels = torch.eye(12).reshape(4, 3, 12)
    _unfold(_up(decoder)[2], levels[2], (pairs, torch.zeros(channels[0])), pixels, torch.zeros(4, 3))
    decoder.proj_out.weight.copy_(pairs.T / (channels[0] // 6))
    nn.init.zeros_(decoder.proj_out.bias)


def _level(channels: int, count: int) -> tuple[Tensor, Tensor]:
    """How `channels` carry `count` <= channels numbers: orthonormal columns, and constants."""
    turn, _ = torch.linalg.qr(torch.randn(channels, count))
    return turn * (channels / count) ** 0.5, torch.randn(channels)


Level = tuple[Tensor, Tensor]


def _unfold(stage: UpStage, before: Level, after: Level, maps: Tensor, offsets: Tensor) -> None:
    """Set a stage's projection: at every place `maps` [places, n', n] of what comes, plus `offsets` [places, n']."""
    back = torch.linalg.pinv(before[0])
    weight = after[0] @ maps @ back  # [places, C', C]
    bias = offsets @ after[0].T + after[1] - weight @ before[1]
    stage.proj.weight.copy_(weight.transpose(0, 1).reshape(stage.proj.weight.shape))
    stage.proj.bias.copy_(bias.T.reshape(-1))


def encode_linear(encoder: Encoder, video: Tensor) -> Tensor:
    """Return what an encoder that `begin_linear` has set makes of a video, sooner: without its idle parts.

    video: float32 [B, F, H, W, 3]. Returns [B, T, h, w, C].
    """
    first, second, third = (stage.conv for stage in _down(encoder))
    weight = torch.einsum("oithw,ic->octhw", first.weight, encoder.proj_in.weight[:, :3])
    x = ops.causal_conv3d(video, weight, None, first.stride)
    x = F.silu(encoder.norm_out(third(second(x))))
    return F.linear(x, encoder.proj_out.weight[: encoder.latent_channels])


def before_unfolding(decoder: Decoder, latents: Tensor) -> Tensor:
    """Return the decoder as far as it is trained: all that has weights to learn, and no large picture yet.

    latents: [B, T, h, w, C]. Returns [B, 3 (T - 1) + 1, 2 h, 2 w, channels].
    """
    first, second, _ = _up(decoder)
    return second.res(first(decoder.block_in(decoder.conv_in(latents))))


def trained_parts(decoder: Decoder) -> tuple[nn.Module, ...]:
    """Return the modules that `before_unfolding` calls."""
    first, second, _ = _up(decoder)
    return decoder.conv_in, decoder.block_in, first, second.res


@torch.no_grad()
def unfolding(decoder: Decoder) -> tuple[Tensor, Tensor]:
    """Weight [96, channels] and bias of the linear map that the rest of the decoder is: to 2 x 4 x 4 pixels of RGB.

    Read off what the decoder makes of the origin and the unit vectors; a pixel is `fold`ed accordingly.
    """
    _, second, third = _up(decoder)
    channels = second.proj.in_features
    seen = torch.cat([torch.zeros(1, channels), torch.eye(channels)]).to(second.proj.weight)
    x = depth_to_space(second.proj(seen.reshape(-1, 1, 1, 1, channels)), second.time, second.space)
    x = depth_to_space(third.proj(x), third.time, third.space)
    pixels = decoder.proj_out(F.silu(x)).flatten(1)
    return (pixels[1:] - pixels[:1]).T, pixels[0]


def fold(video: Tensor) -> Tensor:
    """[B, F, H, W, 3] -> [B, (F + 1) / 2, H / 4, W / 4, 96], in the order of `unfolding`; before the first frame comes
    a copy of it, which the decoder drops."""
    whole = torch.cat([video[:, :1], video], dim=1)
    batch, frames, height, width, rgb = whole.shape
    grid = whole.reshape(batch, frames // 2, 2, height // 4, 4, width // 4, 4, rgb)
    return grid.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)


def _down(encoder: Encoder) -> list[DownStage]:
    return [stage for stage in encoder.down if isinstance(stage, DownStage)]


def _up(decoder: Decoder) -> list[UpStage]:
    return [stage for stage in decoder.up if isinstance(stage, UpStage)]
