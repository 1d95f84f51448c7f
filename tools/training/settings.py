"""Everything that decides what a training run gives; recorded beside its result."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.errors import MochiError


class TrainingError(MochiError):
    """A training run that cannot begin, continue or be used."""


COOLING = 0.25  # of the steps, the last, in which the learning rate falls


@dataclass(frozen=True)
class StageSettings:
    """One stage: gradients clipped to length 1; the learning rate rises, stays, and falls to zero at the end.

    All but the last steps are the same however many there are, so that a run may get more or fewer of them on its way.
    """

    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.0
    ema: float = 0.999  # of the weights that are kept
    muon: bool = False  # for the matrices in the blocks, AdamW for the rest; else AdamW for all

    @property
    def level(self) -> int:
        """The step from which on the learning rate falls."""
        return self.steps - int(COOLING * self.steps)

    def rate(self, step: int) -> float:
        """Return what the learning rate is multiplied by at `step`."""
        rising = (step + 1) / (self.warmup + 1)
        falling = (self.steps - step) / max(self.steps - self.level, 1)
        return max(min(rising, falling, 1.0), 0.0)


@dataclass(frozen=True)
class Settings:
    """A run. The same settings on the same machine's CPU give the same bits."""

    model: str = "small"
    seed: int = 0
    bfloat16: bool = False  # matrix products and convolutions, by autocast
    component_clips: int = 256  # whose patches' principal components the VAE begins with
    vae: StageSettings = field(
        default_factory=lambda: StageSettings(steps=3000, batch=8, learning_rate=8e-4, warmup=200, ema=0.995)
    )
    vae_frames: tuple[int, ...] = (7, 13, 7, 19)  # of a clip that the first stage sees, in one step after the other
    statistics_clips: int = 256  # over which the latents are measured
    dit: StageSettings = field(
        default_factory=lambda: StageSettings(
            steps=8000, batch=64, learning_rate=2e-3, warmup=50, weight_decay=0.01, ema=0.99, muon=True
        )
    )
    caption_dropout: float = 0.1
    pool_chunks: int = 96  # latents kept at a time, in chunks
    chunk: int = 32
    refresh_every: int = 8  # steps from one new chunk to the next

    def write(self, path: Path) -> None:
        """Record as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Return what `write` recorded. Raise TrainingError if the file is something else."""
        try:
            fields: dict[str, Any] = json.loads(path.read_bytes())
            fields |= {name: StageSettings(**fields[name]) for name in ("vae", "dit")}
            return cls(**fields | {"vae_frames": tuple(fields["vae_frames"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(f"{path} does not hold the settings of a training run: {error}") from error
