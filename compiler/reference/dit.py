"""AsymmDiT: the diffusion transformer of Mochi 1, with a wide visual stream and a narrow text stream.

Shapes: B captions, N visual tokens, L text tokens, D visual width, H heads, Dh head width, C latent channels,
p patch size, T x h x w the latent's frames, rows and columns.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mochi_aot.compiler.reference import ops
from mochi_aot.compiler.reference.config import DiTConfig
from mochi_aot.compiler.reference.dtypes import parameters_in
from mochi_aot.compiler.reference.rope import rope_tables

NORM_EPS = 1e-6
QK_NORM_EPS = 1e-5
POOL_HEADS = 8  # of the caption pooling, whatever the model's size


class AsymmDiT(nn.Module):
    """Velocity of a noisy latent at a time, given one or more captions."""

    def __init__(self, config: DiTConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        width, patch_width = config.width, config.in_channels * config.patch**2
        with parameters_in(dtype):
            self.patch_embed = nn.Linear(patch_width, width)
            self.time_embed = TimeEmbedding(config)
            self.caption_pool = CaptionPool(config)
            self.caption_proj = nn.Linear(config.caption_width, config.text_width)
            self.blocks = nn.ModuleList(Block(config, last=i == config.layers - 1) for i in range(config.layers))
            self.final = FinalLayer(config)
        self.pos_frequencies = nn.Parameter(torch.zeros(3, config.heads, config.head_dim // 2, dtype=torch.float32))

    def forward(self, latents: Tensor, timestep: Tensor, caption: Tensor, caption_mask: Tensor) -> Tensor:
        """Predict the velocity of one latent under each of B captions.

        latents: float32 [1, C, T, h, w]; timestep: float32 [1], 0 (noise) to 1000 (video);
        caption: [B, L, caption_width]; caption_mask: bool [B, L].
        Return velocity tokens [B, N, p*p*C]; `unpatchify` makes a latent of them.
        """
        _, _, frames, height, width = latents.shape
        patch = self.config.patch
        # Tokens are cut over chips before their numbers are reordered.
        tokens = ops.annotate(patches(latents, patch).to(self.dtype), "tokens")
        tokens = channels_outermost(tokens, patch)
        x = ops.annotate(self.patch_embed(tokens).expand(caption.shape[0], -1, -1), "captioned_tokens")
        y = self.caption_proj(caption)
        c = F.silu(self.time_embed(timestep) + self.caption_pool(caption, caption_mask)).unsqueeze(1)  # [B, 1, D]
        cos, sin = rope_tables(self.pos_frequencies, (frames, height, width), patch)
        for block in self.blocks:
            x, y = block(x, y, c, cos, sin, caption_mask)
        return ops.annotate(self.final(x, c), "velocity_tokens")


class Block(nn.Module):
    """Joint attention and two MLPs; every branch is normed on its way in and gated by a norm on its way out."""

    def __init__(self, config: DiTConfig, last: bool) -> None:
        super().__init__()
        self.last = last
        self.mod_x = modulations(config.width, config.width, last=False)
        self.mod_y = modulations(config.width, config.text_width, last)
        self.attn = JointAttention(config, last)
        self.mlp_x = SwiGLU(config.width, config.hidden)
        if not last:
            self.mlp_y = SwiGLU(config.text_width, config.text_hidden)

    def forward(
        self, x: Tensor, y: Tensor, c: Tensor, cos: Tensor, sin: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return new x, y of x: [B, N, D]; y: [B, L, text_width]; c: [B, 1, D] conditioning; cos, sin: [N, H, Dh/2]."""
        x_in = norm(x, scale(self.mod_x["scale_msa"], c))
        y_in = norm(y, scale(self.mod_y["scale_msa"], c))
        x_out, y_out = self.attn(x_in, y_in, cos, sin, text_mask)
        x = x + norm(x_out, gate(self.mod_x["gate_msa"], c))
        x = x + norm(self.mlp_x(norm(x, scale(self.mod_x["scale_mlp"], c))), gate(self.mod_x["gate_mlp"], c))
        if self.last:  # nothing reads the text after the last block
            return x, y
        y = y + norm(y_out, gate(self.mod_y["gate_msa"], c))
        y = y + norm(self.mlp_y(norm(y, scale(self.mod_y["scale_mlp"], c))), gate(self.mod_y["gate_mlp"], c))
        return x, y


class JointAttention(nn.Module):
    """Attention over the visual tokens and the unmasked text tokens together; only visual tokens have a position."""

    def __init__(self, config: DiTConfig, last: bool) -> None:
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        width, text_width = config.width, config.text_width
        self.q_x, self.k_x, self.v_x = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_y, self.k_y, self.v_y = (nn.Linear(text_width, width, bias=False) for _ in range(3))
        self.q_norm_x, self.k_norm_x = HeadNorm(config.head_dim), HeadNorm(config.head_dim)
        self.q_norm_y, self.k_norm_y = HeadNorm(config.head_dim), HeadNorm(config.head_dim)
        self.proj_x = nn.Linear(width, width)
        self.proj_y = None if last else nn.Linear(width, text_width)

    def forward(self, x: Tensor, y: Tensor, cos: Tensor, sin: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        q = ops.rope(self.q_norm_x(self.split_heads(self.q_x(x))), cos, sin)
        k = ops.rope(self.k_norm_x(self.split_heads(self.k_x(x))), cos, sin)
        v = self.split_heads(self.v_x(x))
        q_text = self.q_norm_y(self.split_heads(self.q_y(y)))
        k_text = self.k_norm_y(self.split_heads(self.k_y(y)))
        v_text = self.split_heads(self.v_y(y))
        out, out_text = ops.joint_attention(q, k, v, q_text, k_text, v_text, text_mask, self.head_dim**-0.5)
        x = self.proj_x(out.flatten(2))
        y = out_text if self.proj_y is None else self.proj_y(out_text.flatten(2))
        return x, y

    def split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim))


class HeadNorm(nn.Module):
    """RMS norm over the width of a head."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, QK_NORM_EPS)


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class TimeEmbedding(nn.Module):
    """Sinusoidal features of the timestep (cosines first), then a two-layer MLP."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.frequency_width = config.frequency_width
        self.fc1 = nn.Linear(config.frequency_width, config.width)
        self.fc2 = nn.Linear(config.width, config.width)

    def forward(self, timestep: Tensor) -> Tensor:
        """Return [1, D] for timestep: float32 [1]."""
        half = self.frequency_width // 2
        index = torch.arange(half, dtype=torch.float32, device=timestep.device)
        frequencies = torch.exp(index * (-math.log(10000) / half))
        angles = timestep.unsqueeze(-1) * frequencies
        features = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
        return self.fc2(F.silu(self.fc1(features.to(self.fc1.weight.dtype))))


class CaptionPool(nn.Module):
    """One vector a caption: attention over its tokens and their mean, with the mean as the only query."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.caption_width
        self.to_kv = nn.Linear(width, 2 * width)
        self.to_q = nn.Linear(width, width)
        self.to_out = nn.Linear(width, config.width)

    def forward(self, caption: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D] for caption: [B, L, caption_width] and mask: bool [B, L]; masked tokens have no influence."""
        mean = masked_mean(caption, mask)
        key, value = self.to_kv(torch.cat([mean, caption], dim=1)).chunk(2, dim=-1)
        query, key, value = (
            t.unflatten(-1, (POOL_HEADS, -1)).transpose(1, 2) for t in (self.to_q(mean), key, value)
        )  # [B, heads, 1 or 1 + L, width / heads]
        nothing = torch.zeros(mask.shape, dtype=caption.dtype, device=mask.device)
        bias = torch.where(mask, nothing, torch.finfo(caption.dtype).min)
        bias = torch.cat([nothing[:, :1], bias], dim=1)[:, None, None, :]  # the mean is always attended
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.to_out(out.flatten(1))


class FinalLayer(nn.Module):
    """Layer norm with a scale and a shift from the conditioning, then the projection to patches."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.scale = nn.Linear(config.width, config.width)
        self.shift = nn.Linear(config.width, config.width)
        self.proj = nn.Linear(config.width, config.patch**2 * config.in_channels)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        wide = x.float()
        centred = wide - wide.mean(-1, keepdim=True)
        normed = norm(centred, scale(self.scale, c)) + self.shift(c).float()  # the RMS norm of x - mean is a layer norm
        return self.proj(normed.to(x.dtype))


def modulations(width: int, out_width: int, last: bool) -> nn.ModuleDict:
    """Return the linear maps of a block's scales and gates; the last block needs one scale for the text, no more."""
    names = ("scale_msa",) if last else ("scale_msa", "gate_msa", "scale_mlp", "gate_mlp")
    return nn.ModuleDict({name: nn.Linear(width, out_width) for name in names})


def scale(linear: nn.Module, c: Tensor) -> Tensor:
    """Return what a normed input is multiplied by: float32 [B, 1, width]."""
    return linear(c).float() + 1.0


def gate(linear: nn.Module, c: Tensor) -> Tensor:
    """Return what a normed output is multiplied by, within -1 and 1: float32 [B, 1, width]."""
    return torch.tanh(linear(c).float())


def norm(x: Tensor, factor: Tensor) -> Tensor:
    return ops.rms_norm(x, factor, NORM_EPS)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x [B, L, D] over the positions where mask [B, L] is True; zero if there are none. Return [B, 1, D]."""
    weight = mask.to(torch.float32).unsqueeze(-1)
    total = (x.to(torch.float32) * weight).sum(1, keepdim=True)
    return (total / weight.sum(1, keepdim=True).clamp(min=1.0)).to(x.dtype)


def patchify(latents: Tensor, patch: int) -> Tensor:
    """Cut into tokens: [B, C, T, h, w] -> [B, T * h/p * w/p, C*p*p]"""
    return channels_outermost(patches(latents, patch), patch)


def patches(latents: Tensor, patch: int) -> Tensor:
    """Cut into tokens whose channel is innermost: [B, C, T, h, w] -> [B, T * h/p * w/p, p*p*C]

    In steps that keep rows long, since a chip moves a row of any length in about the same time.
    """
    batch, channels, frames, height, width = latents.shape
    pixels = latents.permute(0, 2, 3, 4, 1)  # [B, T, h, w, C]
    halves = pixels.reshape(batch, frames, height // patch, patch, width // patch, patch * channels)
    return halves.permute(0, 1, 2, 4, 3, 5).reshape(batch, -1, patch * patch * channels)


def channels_outermost(tokens: Tensor, patch: int) -> Tensor:
    """Reorder the numbers of each token: [B, N, p*p*C] -> [B, N, C*p*p]"""
    return tokens.reshape(*tokens.shape[:2], patch * patch, -1).transpose(2, 3).reshape(tokens.shape)


def unpatchify(tokens: Tensor, size: tuple[int, int, int], patch: int) -> Tensor:
    """Join tokens, whose channel is innermost here only: [B, T * h/p * w/p, p*p*C] -> [B, C, *size], size (T, h, w)"""
    frames, height, width = size
    batch = tokens.shape[0]
    halves = tokens.reshape(batch, frames, height // patch, width // patch, patch, -1)
    pixels = halves.permute(0, 1, 2, 4, 3, 5).reshape(batch, frames, height, width, -1)
    return pixels.permute(0, 4, 1, 2, 3)
