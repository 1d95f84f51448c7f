"""Everything that decides what a training run gives; recorded beside its result."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.errors import MochiError


class TrainingError(MochiError):
    """A training run that cannot begin, continue or be used."""


@dataclass(frozen=True)
class StageSettings:
    """One stage: AdamW with gradients clipped to length 1, a linear warm-up, then half a cosine down to a fiftieth."""

    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.0
    ema: float = 0.999  # of the weights that are kept


@dataclass(frozen=True)
class Settings:
    """A run. The same settings on the same machine's CPU give the same bits."""

    model: str = "small"
    seed: int = 0
    bfloat16: bool = False  # matrix products and convolutions, by autocast
    vae: StageSettings = field(default_factory=lambda: StageSettings(steps=5000, batch=8, ema=0.998))
    vae_frames: tuple[int, ...] = (13, 13, 25)  # of a clip that the first stage sees, in one step after the other
    kl_weight: float = 1e-3
    statistics_clips: int = 256  # over which the latents are measured
    dit: StageSettings = field(
        default_factory=lambda: StageSettings(steps=12000, batch=256, weight_decay=0.01, ema=0.9995)
    )
    caption_dropout: float = 0.1
    pool_chunks: int = 192  # latents kept at a time, in chunks
    chunk: int = 64
    refresh_every: int = 16  # steps from one new chunk to the next

    def write(self, path: Path) -> None:
        """Record as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """What `write` recorded. Raises TrainingError if the file is something else."""
        try:
            fields: dict[str, Any] = json.loads(path.read_bytes())
            fields |= {name: StageSettings(**fields[name]) for name in ("vae", "dit")}
            return cls(**fields | {"vae_frames": tuple(fields["vae_frames"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(f"{path} does not hold the settings of a training run: {error}") from error
