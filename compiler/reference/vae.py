"""What both halves of AsymmVAE are made of. Activations are channels-last: [B, T, H, W, C]."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mochi_aot.compiler.reference import ops

GROUP_NORM_EPS = 1e-5


class GroupNorm(nn.Module):
    """Group norm of every frame for itself."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.weight, self.bias, self.groups, GROUP_NORM_EPS)


class CausalConv3d(nn.Module):
    """A 3-D convolution whose output at a frame depends on that frame and earlier ones only."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.stride = list(stride)
        like = nn.Conv3d(inputs, outputs, kernel)  # for its customary initial values
        self.weight, self.bias = like.weight, like.bias

    def forward(self, x: Tensor) -> Tensor:
        return ops.causal_conv3d(x, self.weight, self.bias, self.stride)


class ResBlock(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(channels, groups)
        self.conv1 = CausalConv3d(channels, channels, kernel=(3, 3, 3), stride=(1, 1, 1))
        self.norm2 = GroupNorm(channels, groups)
        self.conv2 = CausalConv3d(channels, channels, kernel=(3, 3, 3), stride=(1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(hidden)))


def res_blocks(count: int, channels: int, groups: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(channels, groups) for _ in range(count)))


def channel_constant(values: tuple[float, ...], device: torch.device | None = None) -> Tensor:
    """Return a float32 vector made of scalars, so that a trace without data holds the numbers themselves."""
    return torch.cat([torch.full((1,), value, dtype=torch.float32, device=device) for value in values])
