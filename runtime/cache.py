"""Where this user's files are kept that can be made again at any time."""

import os
import tempfile
from pathlib import Path

from mochi_aot.runtime.errors import BackendError


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/mochi-aot, or ~/.cache/mochi-aot; it need not exist. BackendError if there is no home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # a relative path is to be ignored, says the XDG Base Directory Specification
        return Path(base, "mochi-aot")
    try:
        return Path.home() / ".cache/mochi-aot"
    except RuntimeError:
        raise BackendError("no home folder to keep caches in: set XDG_CACHE_HOME to a folder to write to") from None


def ensure_home() -> None:
    """Set HOME where it is not: to this user's folder, or to where temporary files go if the user has none.

    Services often have no HOME, and importing ttnn 0.81.1 without one ends in a segmentation fault.
    """
    if "HOME" not in os.environ:
        home = os.path.expanduser("~")
        os.environ["HOME"] = home if os.path.isabs(home) else tempfile.gettempdir()
