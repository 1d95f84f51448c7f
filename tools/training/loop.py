"""The training loop that both stages share: optimise, average, log, save, resume."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.tools.training.settings import StageSettings, TrainingError

INNER = r"\bblocks?\.\d+\.(?!.*relative_attention_bias)"  # names of what the two transformers' layers hold

Losses = dict[str, Tensor]  # by name; the first is the one to go down
Fast = Callable[[Callable[..., Any]], Callable[..., Any]]  # how the function that computes them is compiled, if it is


@dataclass(frozen=True)
class Pace:
    """How often, in steps, a run logs, saves and samples, and when it stops."""

    log: int = 50
    save: int = 1000
    sample: int = 1000
    deadline: float | None = None  # time.monotonic()

    @property
    def late(self) -> bool:
        """Whether the deadline has come."""
        return self.deadline is not None and time.monotonic() > self.deadline


class Stage:
    """Modules in training. Every step draws its own random numbers, so that the step is all that there is to resume."""

    def __init__(self, name: str, folder: Path, modules: nn.ModuleDict, settings: StageSettings) -> None:
        """Begin, or go on from `folder`/`name`.pt if that is there."""
        self.name, self.folder, self.settings = name, folder, settings
        self.modules = modules
        self.parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
        self.optimizers = _optimizers(modules, settings)
        self.schedulers = [LambdaLR(optimizer, settings.rate) for optimizer in self.optimizers]
        self.average = AveragedModel(modules, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
        self.average.n_averaged = self.average.n_averaged.cpu()  # it is read in every step
        self.step = 0
        if self.path.exists():
            self._load()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.pt"

    @property
    def done(self) -> bool:
        return self.step >= self.settings.steps

    def kept(self) -> nn.ModuleDict:
        """Return the averaged modules."""
        kept = self.average.module
        assert isinstance(kept, nn.ModuleDict)
        return kept

    def run(self, losses_of: Callable[[int], Losses], pace: Pace, sample: Callable[[int], None]) -> None:
        """Train until all steps are done or the deadline has come; save at the end."""
        logged, at = time.monotonic(), self.step
        while not self.done and not pace.late:
            losses = losses_of(self.step)
            self._update(next(iter(losses.values())))
            self.step += 1
            if self.step % pace.log == 0 or self.done:
                self._log(losses, logged, at)
                logged, at = time.monotonic(), self.step
            if self.step % pace.save == 0:
                self.save()
            if self.step % pace.sample == 0:
                sample(self.step)
        self.save()

    def _update(self, loss: Tensor) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        self.average.update_parameters(self.modules)

    def _log(self, losses: Losses, before: float, at: int) -> None:
        """Append a line; `before` and `at` are the time and the step of the last one."""
        values = {name: round(float(value.detach()), 6) for name, value in losses.items()}
        seconds = (time.monotonic() - before) / (self.step - at)
        line = {"stage": self.name, "step": self.step, **values, "seconds_a_step": round(seconds, 5)}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        click.echo(json.dumps(line))
        for name, value in values.items():
            if value != value:
                raise TrainingError(f"{self.name}: {name} is not a number at step {self.step}; lower the learning rate")

    def save(self) -> None:
        """Write everything that going on needs, whole or not at all."""
        state = {
            "step": self.step,
            "modules": self.modules.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps": self.settings.steps,
        }
        with replacing(self.path) as new:
            torch.save(state, new)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.path, map_location=self.parameters[0].device, weights_only=True)
        self.modules.load_state_dict(state["modules"])
        self.average.load_state_dict(state["average"])
        self.average.n_averaged = self.average.n_averaged.cpu()
        self.step = state["step"]
        self._check_steps(state["steps"])
        for optimizer, scheduler, saved in zip(self.optimizers, self.schedulers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
            scheduler.last_epoch = self.step
            for group, base in zip(optimizer.param_groups, scheduler.base_lrs, strict=True):
                group["lr"] = base * self.settings.rate(self.step)

    def _check_steps(self, before: int) -> None:
        """Raise TrainingError if another number of steps than `before` would have given other weights by now."""
        level = min(replace(self.settings, steps=before).level, self.settings.level)
        if before != self.settings.steps and self.step > level:
            raise TrainingError(
                f"{self.path} is at step {self.step}, where the learning rate falls, of {before} or of "
                f"{self.settings.steps} steps; go on with {before}, or begin in another folder"
            )


def _optimizers(modules: nn.Module, settings: StageSettings) -> list[Optimizer]:
    """Muon for the matrices of blocks if the settings say so, AdamW for all others."""
    rate, decay = settings.learning_rate, settings.weight_decay
    trained = {name: parameter for name, parameter in modules.named_parameters() if parameter.requires_grad}
    inner = {name for name, p in trained.items() if settings.muon and re.search(INNER, name) and p.ndim == 2}
    others = [parameter for name, parameter in trained.items() if name not in inner]
    on_gpu = others[0].is_cuda
    optimizers: list[Optimizer] = [
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=decay, fused=on_gpu)
    ]
    if inner:
        matrices = [parameter for name, parameter in trained.items() if name in inner]
        optimizers.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def step_generator(seed: int, stage: str, step: int, device: torch.device) -> torch.Generator:
    """Return the random numbers of one step."""
    offset = {"vae": 1, "dit": 2, "statistics": 3, "tune": 4}[stage]
    return torch.Generator(device).manual_seed(((seed * 8 + offset) << 32) + step)
