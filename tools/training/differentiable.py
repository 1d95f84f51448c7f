"""The composite operations of the reference, written so that autograd and torch.compile see through them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from mochi_aot.compiler.reference import ops

NAMES = ("annotate", "rms_norm", "rope", "joint_attention", "causal_conv3d", "group_norm")


@contextmanager
def differentiable_ops() -> Iterator[None]:
    """Within it, the reference's modules compute with the functions below, which have derivatives.

    The reference's own are opaque to autograd, so that a trace keeps them whole; tests compare the two.
    """
    before = {name: getattr(ops, name) for name in NAMES}
    for name in NAMES:
        setattr(ops, name, globals()[name])
    try:
        yield
    finally:
        for name, operation in before.items():
            setattr(ops, name, operation)


def annotate(x: Tensor, name: str) -> Tensor:
    return x


def rms_norm(x: Tensor, scale: Tensor | None, eps: float) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide if scale is None else wide * scale.float()).to(x.dtype)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def joint_attention(
    q: Tensor, k: Tensor, v: Tensor, q_text: Tensor, k_text: Tensor, v_text: Tensor, mask: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    query, key, value = (torch.cat(pair, dim=1).transpose(1, 2) for pair in ((q, q_text), (k, k_text), (v, v_text)))
    attended = torch.cat([mask.new_ones(q.shape[:2]), mask], dim=1)[:, None, None, :]
    # For a hundred tokens two products are several times as fast as the backward of torch's attention for CPUs.
    scores = (query @ key.transpose(-1, -2)).float().masked_fill(~attended, -torch.inf)
    out = ((scores * scale).softmax(-1).to(value.dtype) @ value).transpose(1, 2)
    return out[:, : q.shape[1]], out[:, q.shape[1] :]


def causal_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int]) -> Tensor:
    time, height, width = weight.shape[2:]
    border = ((width - 1) // 2, (width - 1) // 2, (height - 1) // 2, (height - 1) // 2, time - 1, 0)
    # Channels-last memory seen as channels-first: no copies, and the layout in which convolutions are fastest.
    padded = F.pad(x.movedim(-1, 1), border, mode="replicate") if any(border) else x.movedim(-1, 1)
    return F.conv3d(padded, weight, bias, stride).movedim(1, -1)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    frames = x.flatten(0, 1).movedim(-1, 1).float()
    return F.group_norm(frames, groups, weight, bias, eps).movedim(1, -1).reshape(x.shape).to(x.dtype)
