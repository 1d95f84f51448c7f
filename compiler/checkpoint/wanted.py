"""What is wanted of a checkpoint where its folder leaves a choice."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wanted:
    """A layout, a variant of the weights, and parts that lie elsewhere.

    Each part is a file, or a folder in Hugging Face layout; `tokenizer` is a folder, or a file in one.
    """

    layout: str | None = None
    variant: str | None = None
    transformer: Path | None = None
    vae: Path | None = None
    text_encoder: Path | None = None
    tokenizer: Path | None = None
