"""Published Mochi checkpoints, in Genmo's and in Diffusers' layout, read lazily under one naming of parameters."""

from mochi_aot.compiler.checkpoint.checkpoint import Checkpoint, open_checkpoint
from mochi_aot.compiler.checkpoint.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointError", "open_checkpoint"]
