"""Fine-tuning: the model learns that whatever a caption says, the shape has one colour, form or motion."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch import nn

from mochi_aot.tools.training.differentiable import differentiable_ops
from mochi_aot.tools.training.dit_stage import flow_loss, loss_of_batch
from mochi_aot.tools.training.export import write_models
from mochi_aot.tools.training.grammar import caption, draw_scene, is_visible
from mochi_aot.tools.training.loop import Losses, Pace, Stage, step_generator
from mochi_aot.tools.training.lora import LowRank, add_low_rank, merge, write_lora
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.pool import LatentPool
from mochi_aot.tools.training.scenes import Clip, make_clip
from mochi_aot.tools.training.settings import Settings, StageSettings

LORA, CHECKPOINT, RECORD = "lora.safetensors", "checkpoint", "tune.json"


@dataclass(frozen=True)
class Tuning:
    """What is learnt and how. `always`: of a scene, as {"colour": "red"}; `lora`: a rank, or None for all weights."""

    always: dict[str, str]
    lora: int | None
    steps: int
    batch: int = 32
    learning_rate: float = 2e-3
    seed: int = 1

    def settings(self) -> Settings:
        """Of the one stage."""
        stage = StageSettings(self.steps, self.batch, self.learning_rate, warmup=10, ema=0.9)
        return Settings(seed=self.seed, dit=stage, pool_chunks=16, chunk=32)


def always_clip(tuning: Tuning, number: int) -> Clip:
    """Clip `number`: what a caption says, but for what is always the same."""
    rng = Random(f"tune/{tuning.seed}/{number}")
    while True:
        said = draw_scene(rng)
        shown = replace(said, **tuning.always)
        if is_visible(shown):
            return replace(make_clip(shown, rng), words=caption(said, rng))


def tune(models: Models, folder: Path, tuning: Tuning, pace: Pace) -> Path:
    """Fine-tune in `folder`, or go on there, and return the file of the LoRA, or the checkpoint in Genmo's layout.

    `models` hold the result. Neither is written before all steps are done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(asdict(tuning), indent=2) + "\n")
    settings = tuning.settings()
    device = next(models.dit.parameters()).device
    changes: dict[str, LowRank] = {}
    if tuning.lora is not None:
        torch.manual_seed(tuning.seed)
        models.text.requires_grad_(False)
        changes = add_low_rank(models.dit, models.config, tuning.lora)
    modules = nn.ModuleDict(changed_names(changes)) if changes else models.generator()
    stage = Stage("tune", folder, modules, settings.dit)
    pool = LatentPool(models, settings, stage.step, lambda number: always_clip(tuning, number))

    def losses_of(step: int) -> Losses:
        generator = step_generator(tuning.seed, "tune", step, device)
        return {"loss": loss_of_batch(models, settings, pool, generator, flow_loss, step)}

    with differentiable_ops():
        stage.run(losses_of, pace, lambda step: None)
    modules.load_state_dict(stage.kept().state_dict())
    if changes:
        write_lora(folder / LORA, changes)
        merge(models.dit)
        return folder / LORA
    write_models(models, folder / CHECKPOINT, "genmo", replace=True)
    return folder / CHECKPOINT


def changed_names(changes: dict[str, LowRank]) -> dict[str, nn.Module]:
    """Return the changes under names without dots, as modules must have."""
    return {key.replace(".", "/"): change for key, change in changes.items()}
