"""The reference, with the weights of a checkpoint: what every bundle is compared with."""

from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.programs import Decode, DenoiseStep, EncodeText, EncodeVideo
from mochi_aot.runtime.tensor_files import Embedding


class Reference:
    """The traced modules themselves, run eagerly in float32 on one device."""

    def __init__(self, checkpoint: Checkpoint, geometry: Geometry) -> None:
        self.checkpoint, self.geometry = checkpoint, geometry

    def _loaded(self, module: nn.Module) -> nn.Module:
        module.load_state_dict({name: self.checkpoint.read(name).float() for name in module.state_dict()})
        return module.eval()

    @cached_property
    def _text(self) -> nn.Module:
        return self._loaded(EncodeText(self.checkpoint.config))

    @cached_property
    def _step(self) -> nn.Module:
        return self._loaded(DenoiseStep(self.checkpoint.config, self.geometry))

    @cached_property
    def _decode(self) -> nn.Module:
        return self._loaded(Decode(self.checkpoint.config, self.geometry))

    @cached_property
    def _encode(self) -> nn.Module:
        return self._loaded(EncodeVideo(self.checkpoint.config, self.geometry))

    @torch.no_grad()
    def encode_text(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self._text(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    @torch.no_grad()
    def denoise(
        self, latents: np.ndarray, positive: Embedding, negative: Embedding, sigmas: np.ndarray, guidance_scale: float
    ) -> np.ndarray:
        z = torch.from_numpy(latents)
        prompts = [torch.from_numpy(a) for a in (positive.embeds, positive.mask, negative.embeds, negative.mask)]
        for sigma, next_sigma in pairwise(torch.from_numpy(sigmas)):
            z = self._step(z, sigma.reshape(1), next_sigma.reshape(1), torch.tensor([guidance_scale]), *prompts)
        return z.numpy()

    @torch.no_grad()
    def decode(self, latents: np.ndarray) -> np.ndarray:
        return self._decode(torch.from_numpy(latents)).numpy()

    @torch.no_grad()
    def encode(self, frames: np.ndarray) -> np.ndarray:
        return self._encode(torch.from_numpy(frames)).numpy()


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest expected magnitude."""
    return float(np.abs(got.astype(np.float64) - expected).max() / np.abs(expected.astype(np.float64)).max())


def pcc(got: np.ndarray, expected: np.ndarray) -> float:
    """Pearson's correlation coefficient of all elements."""
    return float(np.corrcoef(got.astype(np.float64).ravel(), expected.astype(np.float64).ravel())[0, 1])
