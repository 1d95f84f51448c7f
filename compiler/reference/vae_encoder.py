"""The encoder of AsymmVAE: RGB to the mean of a 12-channel latent, 8x8 smaller in space and 6x shorter in time."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mochi_aot.compiler.reference import ops
from mochi_aot.compiler.reference.config import VAEConfig
from mochi_aot.compiler.reference.dtypes import parameters_in
from mochi_aot.compiler.reference.vae import CausalConv3d, GroupNorm, ResBlock, res_blocks

FOURIER_OCTAVES = (6, 7)  # features are sin and cos of 2 pi 2^octave x
# The published encoder divides q and k by max(their length, 1e-5). An RMS norm with this epsilon, times
# head_dim**-0.5, divides by sqrt(length^2 + 1e-10): the same for all but vanishing vectors.
UNIT_NORM_EPS = 1e-10


class Encoder(nn.Module):
    """Residual stages from full resolution to the latent; all but the first attend over time."""

    def __init__(self, config: VAEConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        channels, res, groups = config.encoder_channels, config.encoder_res, config.groups
        self.latent_channels, self.dtype = config.latent_channels, dtype
        with parameters_in(dtype):
            self.proj_in = nn.Linear(3 + config.fourier_features, channels[0])
            self.block_in = res_blocks(res[0], channels[0], groups)
            self.down = nn.ModuleList(DownStage(config, i) for i in range(len(config.time_factors)))
            self.block_out = AttentiveBlocks(res[-1], channels[-1], config)
            self.norm_out = GroupNorm(channels[-1], groups)
            self.proj_out = nn.Linear(channels[-1], 2 * config.latent_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Encode float32 [B, F, H, W, 3] in -1 to 1, F = 6k + 1 -> [B, k + 1, H / 8, W / 8, latent_channels]"""
        return self.moments(x)[..., : self.latent_channels]

    def moments(self, x: Tensor) -> Tensor:
        """Return the mean, as `forward` gives it, and behind it the logarithm of the variance: twice the channels."""
        features = torch.cat([part.to(self.dtype) for part in fourier_features(x)], dim=-1)
        x = self.block_in(F.linear(features, by_features(self.proj_in.weight, x.shape[-1]), self.proj_in.bias))
        for stage in self.down:
            x = stage(x)
        x = F.silu(self.norm_out(self.block_out(x)))
        return self.proj_out(x)


class AttentiveBlocks(nn.Module):
    """Residual blocks, each followed by attention over time."""

    def __init__(self, count: int, channels: int, config: VAEConfig) -> None:
        super().__init__()
        self.res = nn.ModuleList(ResBlock(channels, config.groups) for _ in range(count))
        self.attn = nn.ModuleList(
            TimeAttention(channels, config.attention_head_dim, config.groups) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        for res, attn in zip(self.res, self.attn, strict=True):
            x = attn(res(x))
        return x


class DownStage(AttentiveBlocks):
    """A strided convolution whose kernel covers what it merges, then residual and attention blocks."""

    def __init__(self, config: VAEConfig, index: int) -> None:
        inputs, outputs = config.encoder_channels[index : index + 2]
        super().__init__(config.encoder_res[index + 1], outputs, config)
        self.name = f"down_{index}"
        factors = (config.time_factors[index], config.space_factors[index], config.space_factors[index])
        self.conv = CausalConv3d(inputs, outputs, kernel=factors, stride=factors)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(ops.annotate(self.conv(x), self.name))


class TimeAttention(nn.Module):
    """Every pixel attends over its own past. Queries and keys have unit length."""

    def __init__(self, channels: int, head_dim: int, groups: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm = GroupNorm(channels, groups)
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(channels, channels, bias=False)
        self.v = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        eps = UNIT_NORM_EPS / self.head_dim
        q = ops.rms_norm(self.split(self.q(normed)), None, eps)
        k = ops.rms_norm(self.split(self.k(normed)), None, eps)
        v = self.split(self.v(normed))
        # head_dim**-0.5 from the attention and once more from each of the two norms
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.head_dim**-1.5)
        return x + self.out(self.merge(out))

    def split(self, x: Tensor) -> Tensor:
        """Split heads: [B, T, H, W, C] -> [B, H, W, heads, T, head_dim]; space stays apart, to be cut both ways"""
        return x.unflatten(-1, (-1, self.head_dim)).permute(0, 2, 3, 4, 1, 5)

    def merge(self, x: Tensor) -> Tensor:
        """Undo `split`."""
        return x.permute(0, 4, 1, 2, 3, 5).flatten(-2)


def fourier_features(x: Tensor) -> list[Tensor]:
    """Return a video and waves of it, each of the shape [..., C] of x: sines at each octave, then cosines."""
    angles = [x * (2 * math.pi * 2**octave) for octave in FOURIER_OCTAVES]
    return [x, *map(torch.sin, angles), *map(torch.cos, angles)]


def by_features(weight: Tensor, channels: int) -> Tensor:
    """Return the published weight [outputs, C (1 + 2 octaves)] in the order of `fourier_features` one after the other.

    The published order has a channel's octaves next to each other; in the other one no feature has to be taken apart.
    """
    plain, waves = weight[:, :channels], weight[:, channels:]
    waves = waves.unflatten(1, (2, channels, len(FOURIER_OCTAVES))).transpose(2, 3).flatten(1)
    return torch.cat([plain, waves], dim=1)
