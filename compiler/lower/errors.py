"""Errors of lowering that a user can act on."""

from mochi_aot.artifacts.errors import ExitCode, MochiError


class KernelsError(MochiError):
    """Real kernels are required, and this host can build none."""

    exit_code = ExitCode.DEVICE
