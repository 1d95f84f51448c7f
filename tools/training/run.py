"""A whole training run: both stages, one after the other, in one folder."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mochi_aot.tools.training.differentiable import differentiable_ops
from mochi_aot.tools.training.dit_stage import train_dit
from mochi_aot.tools.training.loop import Fast, Pace, Stage
from mochi_aot.tools.training.models import CONFIGS, Models, build_models
from mochi_aot.tools.training.settings import Settings, TrainingError
from mochi_aot.tools.training.vae_stage import latent_statistics, scale_latents, train_vae

SETTINGS, STATISTICS = "settings.json", "latents.json"


@dataclass(frozen=True)
class Hardware:
    """What a run uses; it changes how fast, and on a GPU how exactly, but not what is trained."""

    device: str = "cpu"
    compiled: bool = False  # by torch.compile


def train(folder: Path, settings: Settings, hardware: Hardware, pace: Pace) -> Models:
    """Train in `folder`, or go on with what is there. The models hold what was reached when the deadline comes.

    Raises TrainingError if the folder holds a run of other settings.
    """
    _record(folder, settings)
    torch.set_float32_matmul_precision("high")  # TF32, where the chip has it
    torch.backends.cudnn.benchmark = hardware.device != "cpu"
    device = torch.device(hardware.device)
    models = build_models(CONFIGS[settings.model], settings.seed, device)
    fast: Fast = partial(torch.compile, dynamic=False) if hardware.compiled else _as_it_is
    with differentiable_ops():
        stage = train_vae(models, settings, folder, pace, fast)
        _keep(models, stage)
        if stage.done:
            _scale(models, settings, folder / STATISTICS)
            _keep(models, train_dit(models, settings, folder, pace, fast))
    return models


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _scale(models: Models, settings: Settings, path: Path) -> None:
    """Scale the latents by their statistics: those in `path`, or measured and recorded there."""
    device = next(models.encoder.parameters()).device
    if path.exists():
        found = json.loads(path.read_bytes())
        mean, std = (torch.tensor(found[name], device=device) for name in ("mean", "std"))
    else:
        mean, std = latent_statistics(models, settings, device)
    left = scale_latents(models, mean, std)
    statistics = {"mean": mean.tolist(), "std": std.tolist(), "normalised_mean": left.tolist()}
    path.write_text(json.dumps(statistics, indent=2) + "\n")


def _keep(models: Models, stage: Stage) -> None:
    """The averaged weights, in place of the last ones."""
    models.load(stage.kept().state_dict())


def load_run(folder: Path, device: str = "cpu") -> Models:
    """The models of the run in `folder`, as far as it has come, without training."""
    settings = Settings.read(folder / SETTINGS)
    return train(folder, settings, Hardware(device), Pace(deadline=time.monotonic()))


def _record(folder: Path, settings: Settings) -> None:
    path = folder / SETTINGS
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists() and Settings.read(path) != settings:
        held = asdict(Settings.read(path))
        other = [name for name, value in asdict(settings).items() if held[name] != value]
        raise TrainingError(f"{folder} holds a run with other settings ({', '.join(other)}); choose another folder")
    settings.write(path)


def changed(settings: Settings, vae: dict[str, int | None], dit: dict[str, int | None]) -> Settings:
    """The settings with other fields of the two stages, where they are not None."""
    given = ({name: value for name, value in fields.items() if value is not None} for fields in (vae, dit))
    vae_fields, dit_fields = given
    return replace(settings, vae=replace(settings.vae, **vae_fields), dit=replace(settings.dit, **dit_fields))
