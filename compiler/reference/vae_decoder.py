"""The decoder of AsymmVAE: 12-channel latents to RGB, 8x8 larger in space and 6x longer in time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mochi_aot.compiler.reference.config import VAEConfig
from mochi_aot.compiler.reference.dtypes import parameters_in
from mochi_aot.compiler.reference.vae import res_blocks


class Decoder(nn.Module):
    """Residual stages from the latent to full resolution; no attention."""

    def __init__(self, config: VAEConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        channels, res, groups = config.decoder_channels, config.decoder_res, config.groups
        with parameters_in(dtype):
            self.conv_in = nn.Linear(config.latent_channels, channels[-1])
            self.block_in = res_blocks(res[-1], channels[-1], groups)
            self.up = nn.ModuleList(
                UpStage(
                    channels[i + 1], channels[i], res[i + 1], groups, config.time_factors[i], config.space_factors[i]
                )
                for i in reversed(range(len(config.time_factors)))
            )
            self.block_out = res_blocks(res[0], channels[0], groups)
            self.proj_out = nn.Linear(channels[0], 3)

    def forward(self, x: Tensor) -> Tensor:
        """Decode [B, T, h, w, latent_channels] -> [B, 6 (T - 1) + 1, 8 h, 8 w, 3], about -1 to 1."""
        x = self.block_in(self.conv_in(x))
        for stage in self.up:
            x = stage(x)
        return self.proj_out(F.silu(self.block_out(x)))


class UpStage(nn.Module):
    """Residual blocks, then every position unfolds into time x space x space new ones.

    The first frame stands for one frame, not for `time`: what it makes before its last one is dropped at once, as in
    Genmo's DepthToSpaceTime, so that the causal convolutions of all later stages repeat that one frame in front.
    """

    def __init__(self, inputs: int, outputs: int, res: int, groups: int, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space = time, space
        self.res = res_blocks(res, inputs, groups)
        self.proj = nn.Linear(inputs, outputs * time * space * space)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block: [B, T, H, W, inputs] -> [B, time (T - 1) + 1, H * space, W * space, outputs]"""
        x = depth_to_space(self.proj(self.res(x)), self.time, self.space)
        return x[:, self.time - 1 :] if self.time > 1 else x


def depth_to_space(x: Tensor, time: int, space: int) -> Tensor:
    """Turn channels into pixels: [B, T, H, W, C * time * space * space] -> [B, T * time, H * space, W * space, C]"""
    batch, frames, height, width, _ = x.shape
    x = x.reshape(batch, frames, height, width, -1, time, space, space)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(batch, frames * time, height * space, width * space, -1)
