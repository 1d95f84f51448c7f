"""The training loop that both stages share: optimise, average, log, save, resume."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mochi_aot.tools.training.settings import StageSettings, TrainingError

LAST_RATE = 0.02  # of the learning rate, at the end

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
        self.parameters = list(modules.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=settings.weight_decay,
            fused=self.parameters[0].is_cuda,
        )
        self.scheduler = _scheduler(self.optimizer, settings)
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
        """The averaged modules."""
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
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.scheduler.step()
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
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        temporary = self.path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.path)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.path, map_location=self.parameters[0].device, weights_only=True)
        self.modules.load_state_dict(state["modules"])
        self.average.load_state_dict(state["average"])
        self.average.n_averaged = self.average.n_averaged.cpu()
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.step = state["step"]


def _scheduler(optimizer: torch.optim.Optimizer, settings: StageSettings) -> SequentialLR:
    warmup = min(settings.warmup, max(settings.steps // 2, 1))
    rising = LinearLR(optimizer, start_factor=0.01, total_iters=warmup)
    falling = CosineAnnealingLR(
        optimizer, T_max=max(settings.steps - warmup, 1), eta_min=LAST_RATE * settings.learning_rate
    )
    return SequentialLR(optimizer, [rising, falling], milestones=[warmup])


def step_generator(seed: int, stage: str, step: int, device: torch.device) -> torch.Generator:
    """The random numbers of one step."""
    offset = {"vae": 1, "dit": 2, "statistics": 3}[stage]
    return torch.Generator(device).manual_seed(((seed * 8 + offset) << 32) + step)
