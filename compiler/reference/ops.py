"""Composite operations that a trace keeps whole: each implementation below is the definition of what is correct.

All return contiguous tensors. Norms, rotations and convolutions are computed in float32 and rounded to the dtype of
their input once, at the end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.library.custom_op("mochi::annotate", mutates_args=())
def annotate(x: Tensor, name: str) -> Tensor:
    """Return `x`, known to the partitioner as `name`."""
    return x.clone(memory_format=torch.contiguous_format)


@annotate.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("mochi::rms_norm", mutates_args=())
def rms_norm(x: Tensor, scale: Tensor | None, eps: float) -> Tensor:
    """Normalise x [..., D] by the root mean square of its last dimension, then multiply by `scale` (broadcast to x)."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if scale is not None:
        wide = wide * scale.float()
    return wide.to(x.dtype).contiguous()


@rms_norm.register_fake
def _(x: Tensor, scale: Tensor | None, eps: float) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("mochi::rope", mutates_args=())
def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (x[2i], x[2i+1]) of x [B, N, H, Dh] by the angles in cos, sin: float32 [N, H, Dh/2]."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


@rope.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("mochi::joint_attention", mutates_args=())
def joint_attention(
    q: Tensor, k: Tensor, v: Tensor, q_text: Tensor, k_text: Tensor, v_text: Tensor, mask: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attend from visual and text queries to all visual keys and to the text keys whose mask is True.

    q, k, v: [B, N, H, Dh]; q_text, k_text, v_text: [B, L, H, Dh]; mask: bool [B, L].
    Return (visual [B, N, H, Dh], text [B, L, H, Dh]). Rows of masked text queries are defined but mean nothing.
    """
    attended = torch.cat([mask.new_ones(q.shape[:2]), mask], dim=1)[:, None, None, :]
    key = torch.cat([k, k_text], dim=1).transpose(1, 2)
    value = torch.cat([v, v_text], dim=1).transpose(1, 2)

    def attend(query: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(query.transpose(1, 2), key, value, attn_mask=attended, scale=scale)
        return out.transpose(1, 2).contiguous()

    return attend(q), attend(q_text)


@joint_attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, q_text: Tensor, k_text: Tensor, v_text: Tensor, mask: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q_text.new_empty(q_text.shape)


@torch.library.custom_op("mochi::causal_conv3d", mutates_args=())
def causal_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int]) -> Tensor:
    """Convolve x [B, T, H, W, C] with weight [O, C, kt, kh, kw] at `stride` (t, h, w), without looking ahead in time.

    The border is replicated: kt - 1 frames in front, (k - 1) // 2 on each side in space. Return [B, T', H', W', O].
    """
    time, height, width = weight.shape[2:]
    border = ((width - 1) // 2, (width - 1) // 2, (height - 1) // 2, (height - 1) // 2, time - 1, 0)
    padded = F.pad(x.movedim(-1, 1).float(), border, mode="replicate")
    out = F.conv3d(padded, weight.float(), None if bias is None else bias.float(), stride)
    return out.movedim(1, -1).to(x.dtype).contiguous()


@causal_conv3d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int]) -> Tensor:
    kernel = weight.shape[2:]
    added = (kernel[0] - 1, *(2 * ((k - 1) // 2) for k in kernel[1:]))
    sizes = [(n + a - k) // s + 1 for n, a, k, s in zip(x.shape[1:4], added, kernel, stride, strict=True)]
    return x.new_empty(x.shape[0], *sizes, weight.shape[0])


@torch.library.custom_op("mochi::group_norm", mutates_args=())
def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Group norm of x [B, T, H, W, C], each frame for itself: statistics over H, W and C / groups channels."""
    frames = x.flatten(0, 1).movedim(-1, 1).float()
    normed = F.group_norm(frames, groups, weight.float(), bias.float(), eps)
    return normed.movedim(1, -1).to(x.dtype).reshape(x.shape).contiguous()


@group_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("mochi::count_nonfinite", mutates_args=())
def count_nonfinite(x: Tensor) -> Tensor:
    """Count the elements of x [B, T, H, W, C] that are infinite or not a number. Return float32 [1, 1]."""
    return torch.isfinite(x).logical_not().sum().float().reshape(1, 1)


@count_nonfinite.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(1, 1, dtype=torch.float32)
