"""The bundle: what the build host writes and the inference host reads. docs/format.md describes it."""

from mochi_aot.artifacts.errors import BundleError, MochiError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.writer import BundleWriter

__all__ = ["Bundle", "BundleError", "BundleWriter", "MochiError"]
