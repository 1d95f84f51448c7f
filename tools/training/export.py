"""Training runs and checkpoints to models, and models to checkpoints in either layout."""

from pathlib import Path

import torch
from torch import Tensor

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.parameter_writer import write_parameters
from mochi_aot.tools.training.captions import caption_tokenizer
from mochi_aot.tools.training.models import Models, build_models
from mochi_aot.tools.training.run import SETTINGS, load_run

DTYPE = torch.bfloat16


def open_models(folder: Path, device: str) -> Models:
    """Return the models of a training run, or of a checkpoint in either layout, in float32 on `device`."""
    if (folder / SETTINGS).is_file():
        return load_run(folder, device)
    checkpoint = open_checkpoint(folder)
    models = build_models(checkpoint.config, 0, torch.device(device))
    models.load({name: checkpoint.read(name).float() for name in checkpoint.names()})
    return models


def write_models(models: Models, folder: Path, layout: str, replace: bool = False) -> None:
    """Write a checkpoint of the models, bfloat16 but for the rotary frequencies, with the captions' tokenizer."""
    parameters: dict[str, Tensor] = {name: value.cpu() for name, value in models.parameters().items()}
    write_parameters(folder, models.config, layout, parameters.__getitem__, DTYPE, replace, caption_tokenizer())
