"""What can be wrong with a checkpoint."""

from mochi_aot.artifacts.errors import ExitCode, MochiError


class CheckpointError(MochiError):
    """A checkpoint that is absent, damaged, of an unknown layout, or not the model that its sizes promise."""


class WeightError(CheckpointError):
    """A weight that is not a finite number."""


class CheckpointExistsError(CheckpointError):
    """The place where a checkpoint is to be written is taken."""

    exit_code = ExitCode.EXISTS
