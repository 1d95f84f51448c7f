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
from mochi_aot.tools.training.settings import Settings, StageSettings, TrainingError
from mochi_aot.tools.training.vae_stage import latent_statistics, train_vae

SETTINGS, STATISTICS = "settings.json", "latents.json"


@dataclass(frozen=True)
class Hardware:
    """What a run uses; it changes how fast, and on a GPU how exactly, but not what is trained."""

    device: str = "cpu"
    compiled: bool = False  # by torch.compile


def train(folder: Path, settings: Settings, hardware: Hardware, pace: Pace) -> Models:
    """Train in `folder`, or go on with what is there. The models hold what was reached when the deadline comes.

    Raises TrainingError if the folder holds a run of other settings; only the numbers of steps may change.
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
            _measure(models, settings, folder / STATISTICS)
            _keep(models, train_dit(models, settings, folder, pace, fast))
    return models


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _measure(models: Models, settings: Settings, path: Path) -> None:
    """Record the latents' statistics beside those that the checkpoint says they have."""
    if path.exists():
        return
    mean, std = latent_statistics(models, settings, next(models.encoder.parameters()).device)
    vae = models.config.vae
    measured = {"mean": mean.tolist(), "std": std.tolist()}
    said = {"latents_mean": vae.latents_mean, "latents_std": vae.latents_std}
    path.write_text(json.dumps({"clips": settings.statistics_clips, **measured, **said}, indent=2) + "\n")


def _keep(models: Models, stage: Stage) -> None:
    """Put the averaged weights in place of the last ones."""
    models.load(stage.kept().state_dict())


def load_run(folder: Path, device: str = "cpu") -> Models:
    """Return the models of the run in `folder`, as far as it has come, without training."""
    settings = Settings.read(folder / SETTINGS)
    return train(folder, settings, Hardware(device), Pace(deadline=time.monotonic()))


def _record(folder: Path, settings: Settings) -> None:
    path = folder / SETTINGS
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        held, wanted = asdict(Settings.read(path)), asdict(settings)
        for fields in (held, wanted):
            for stage in ("vae", "dit"):
                fields[stage].pop("steps")  # may change: `Stage` says when
        other = [name for name, value in wanted.items() if held[name] != value]
        if other:
            raise TrainingError(f"{folder} holds a run with other settings ({', '.join(other)}); choose another folder")
    settings.write(path)


def changed(settings: Settings, vae: dict[str, int | None], dit: dict[str, int | None]) -> Settings:
    """Return the settings with other fields of the two stages, where they are not None."""
    return replace(settings, vae=_with(settings.vae, vae), dit=_with(settings.dit, dit))


def _with(stage: StageSettings, fields: dict[str, int | None]) -> StageSettings:
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    return replace(stage, **given)
