"""Group norm per frame, in one piece, or as statistics and their application where space is sharded.

Statistics are (count, mean, M2), M2 being the sum of squared deviations from the mean, merged as in Chan, Golub and
LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances" (1979).
"""

import torch
import torch.nn.functional as F

from mochi_aot.runtime.torch.types import Attrs, Builder, Kernel


def _group_norm(attrs: Attrs) -> Kernel:
    """Normalise x [B,T,H,W,C] over H, W and the channels of a group, for each batch row and frame."""
    groups, eps = attrs["groups"], attrs["eps"]

    def group_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        frames = x.flatten(0, 1).permute(0, 3, 1, 2)
        return F.group_norm(frames, groups, weight, bias, eps).permute(0, 2, 3, 1).reshape(x.shape)

    return group_norm


def group_norm_stats(x: torch.Tensor, groups: int, extents: tuple[int | None, ...]) -> torch.Tensor:
    """Return statistics [1,1,B,T,groups,3] float32 of x [B,T,H,W,C]: of the first extents[dim] per dimension."""
    frames, height, width = extents[1:4]
    valid = x[:, :frames, :height, :width].float()
    stats = x.new_zeros((1, 1, *x.shape[:2], groups, 3), dtype=torch.float32)
    if valid.numel() > 0:
        # Sums over whole pixels are about 20 times faster than sums that stop at the groups' borders.
        mean = _by_group(valid.mean((2, 3)), groups).mean(-1)
        deviation = valid - _by_channel(mean, x.shape[-1])
        m2 = _by_group(deviation.square_().sum((2, 3)), groups).sum(-1)
        count = valid.shape[2] * valid.shape[3] * (x.shape[-1] // groups)
        stats[0, 0, :, :frames] = torch.stack([torch.full_like(mean, count), mean, m2], -1)
    return stats


def _by_group(per_channel: torch.Tensor, groups: int) -> torch.Tensor:
    """Reshape [B,T,C] to [B,T,groups,C/groups]."""
    return per_channel.reshape(*per_channel.shape[:-1], groups, -1)


def _by_channel(per_group: torch.Tensor, channels: int) -> torch.Tensor:
    """Repeat [B,T,groups] as [B,T,1,1,channels], to broadcast over frames of pixels."""
    return per_group.repeat_interleave(channels // per_group.shape[-1], -1)[:, :, None, None]


def _group_norm_apply(attrs: Attrs) -> Kernel:
    """Normalise x [B,T,H,W,C] by the statistics [P0,P1,B,T,G,3] of all parts; times weight [C], plus bias."""
    eps = attrs["eps"]

    def group_norm_apply(
        x: torch.Tensor, stats: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        counts, means, m2 = stats.flatten(0, 1).unbind(-1)
        count = counts.sum(0).clamp_(min=1)  # a frame that is all padding counts nothing, and must stay finite
        mean = (counts * means).sum(0) / count
        variance = (m2 + counts * (means - mean).square()).sum(0) / count
        # One multiply-add an element.
        scale = _by_channel(torch.rsqrt(variance + eps), x.shape[-1]) * weight
        shift = bias - _by_channel(mean, x.shape[-1]) * scale
        return torch.addcmul(shift, x, scale).to(x.dtype)

    return group_norm_apply


GROUP_NORM: dict[str, Builder] = {"group_norm": _group_norm, "group_norm_apply": _group_norm_apply}
