"""Mochi 1, compiled ahead of time into a bundle that a mesh of devices can start in seconds.

    import mochi_aot

    mochi_aot.compile("mochi-1-preview", mesh="4x8", output="mochi.bundle")
    with mochi_aot.load("mochi.bundle") as pipe:
        pipe("a heron lands on a frozen lake", seed=7).save("heron.mp4")

Names are looked up when they are first used: importing this package loads neither numpy nor a target's library. The
packages below this one are the folders at the top of the repository, by links.
"""

# Nothing is imported here: until tools.commands has its handlers, a signal would be a traceback of what is.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mochi_aot.artifacts.errors import BundleError, MochiError
    from mochi_aot.compiler.api import compile
    from mochi_aot.runtime.api import PromptEmbeds, VideoPipeline, load
    from mochi_aot.runtime.bundle_info import BundleInfo, describe
    from mochi_aot.runtime.errors import (
        BackendError,
        BusyError,
        ClosedError,
        DeviceMemoryError,
        InputFileError,
        NumbersError,
        OptionError,
        OutputError,
        VideoError,
    )
    from mochi_aot.runtime.pipeline import Usage
    from mochi_aot.runtime.result import Video

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "BundleError",
    "BundleInfo",
    "BusyError",
    "ClosedError",
    "DeviceMemoryError",
    "InputFileError",
    "MochiError",
    "NumbersError",
    "OptionError",
    "OutputError",
    "PromptEmbeds",
    "Usage",
    "Video",
    "VideoError",
    "VideoPipeline",
    "__version__",
    "compile",
    "describe",
    "load",
]

_ERRORS = "mochi_aot.runtime.errors"
# Where each name is; a test compares the table with the imports above.
_MODULES = {
    "BackendError": _ERRORS,
    "BundleError": "mochi_aot.artifacts.errors",
    "BundleInfo": "mochi_aot.runtime.bundle_info",
    "BusyError": _ERRORS,
    "ClosedError": _ERRORS,
    "DeviceMemoryError": _ERRORS,
    "InputFileError": _ERRORS,
    "MochiError": "mochi_aot.artifacts.errors",
    "NumbersError": _ERRORS,
    "OptionError": _ERRORS,
    "OutputError": _ERRORS,
    "PromptEmbeds": "mochi_aot.runtime.api",
    "Usage": "mochi_aot.runtime.pipeline",
    "Video": "mochi_aot.runtime.result",
    "VideoError": _ERRORS,
    "VideoPipeline": "mochi_aot.runtime.api",
    "compile": "mochi_aot.compiler.api",
    "describe": "mochi_aot.runtime.bundle_info",
    "load": "mochi_aot.runtime.api",
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
