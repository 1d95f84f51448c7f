"""Errors of partitioning that a user can act on."""

from mochi_aot.artifacts.errors import MochiError


class PlanError(MochiError):
    """A plan, or a mesh, that cannot work for this model and geometry."""
