"""Mochi checkpoints as they are published, read lazily under one naming of parameters."""

from mochi_aot.compiler.checkpoint.checkpoint import Checkpoint
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.opening import open_checkpoint

__all__ = ["Checkpoint", "CheckpointError", "open_checkpoint"]
