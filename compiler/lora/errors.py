"""What can be wrong with a LoRA."""

from mochi_aot.artifacts.errors import MochiError


class LoraError(MochiError):
    """A LoRA that is absent, damaged, of a kind that is not merged here, or not of this model."""
