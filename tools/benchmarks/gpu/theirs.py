"""diffusers' transformer and autoencoder with the weights that our programs have, made on the device."""

from typing import Any

import numpy as np
import torch

from mochi_aot.compiler.checkpoint import diffusers_config
from mochi_aot.compiler.checkpoint.diffusers import TRANSFORMER, VAE
from mochi_aot.compiler.checkpoint.parameter_writer import plan
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.tools.benchmarks.gpu.seeds import DeviceSeeds
from mochi_aot.tools.benchmarks.guided_steps import diffusers_autoencoder, diffusers_transformer


def transformer(config: MochiConfig, seeds: DeviceSeeds, dtype: torch.dtype) -> Any:
    """Return diffusers' transformer on the device of the seeds. Raise PackageMissingError."""
    fields = diffusers_config.dit_fields(config.dit, config.text_length)
    return _with_weights(diffusers_transformer(), fields, _tensors(TRANSFORMER, config, seeds, dtype))


def autoencoder(config: MochiConfig, seeds: DeviceSeeds, dtype: torch.dtype) -> Any:
    """Return diffusers' autoencoder on the device of the seeds. Raise PackageMissingError."""
    fields = diffusers_config.vae_fields(config.vae)
    return _with_weights(diffusers_autoencoder(), fields, _tensors(VAE, config, seeds, dtype))


def compiled_twin(model: Any) -> Any:
    """Return a transformer of the same tensors whose blocks torch.compile makes kernels of."""
    twin = _with_weights(type(model), dict(model.config), model.state_dict())
    for block in twin.transformer_blocks:
        block.compile()
    return twin


class DiffusersDecode:
    """Frames of latents as diffusers' pipeline makes them: uint8 [F,H,W,3], on the host."""

    def __init__(self, model: Any, latents: np.ndarray, config: MochiConfig, dtype: torch.dtype, device: str) -> None:
        self._model = model
        mean, std = (
            torch.tensor(numbers).view(1, -1, 1, 1, 1) for numbers in (config.vae.latents_mean, config.vae.latents_std)
        )
        self._latents = (torch.from_numpy(latents) * std + mean).to(device, dtype)

    @torch.inference_mode()
    def __call__(self) -> np.ndarray:
        """Return the frames."""
        video = self._model.decode(self._latents, return_dict=False)[0][0]
        levels = (video / 2 + 0.5).clamp_(0, 1).permute(1, 2, 3, 0).float().mul_(255).round_()
        return levels.to(torch.uint8).cpu().numpy()


def _tensors(component: str, config: MochiConfig, seeds: DeviceSeeds, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {tensor.key: tensor.make() for tensor in plan(config, "diffusers", seeds.read, dtype)[component]}


def _with_weights(kind: Any, fields: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """Return a model of the class `kind` whose parameters are these tensors themselves."""
    with torch.device("meta"):
        model = kind.from_config({name: value for name, value in fields.items() if name != "_class_name"})
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval()
