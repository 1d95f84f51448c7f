"""What can be wrong with the hub, rather than with a checkpoint."""

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.compiler.checkpoint.errors import CheckpointError


class HubError(CheckpointError):
    """The hub cannot be reached, or does not give what it has."""

    exit_code = ExitCode.SYSTEM
