"""The bundle: what the build host writes and the inference host reads. docs/format.md describes it.

What is named here is imported when it is first asked for: the errors and the layout are to be had without numpy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mochi_aot.artifacts.errors import BundleError, MochiError
    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.artifacts.writer import BundleWriter

__all__ = ["Bundle", "BundleError", "BundleWriter", "MochiError"]
_MODULES = {"Bundle": "reader", "BundleError": "errors", "BundleWriter": "writer", "MochiError": "errors"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
