"""Errors of partitioning that a user can act on."""

from mochi_aot.artifacts.errors import ExitCode, MochiError


class PlanError(MochiError):
    """A plan, or a mesh, that cannot work for this model and geometry."""

    exit_code = ExitCode.REFUSED


class PlanTextError(PlanError):
    """The text of a plan or mesh that says nothing."""

    exit_code = ExitCode.USAGE
