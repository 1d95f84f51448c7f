"""ttnn's runtime root: a folder of links into the installed package, and the compiler of kernels.

ttnn finds a kernel in its cache again only if its runtime root has the path under which the kernel was built. That of
the installed package differs from environment to environment; this one is the same for all: see fixed_path.py.
"""

import logging
import subprocess
from pathlib import Path

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.runtime.cache import VARIABLE, cache_folder
from mochi_aot.runtime.errors import CacheError
from mochi_aot.runtime.ttnn.fixed_path import is_fixed, path_for_ttnn
from mochi_aot.runtime.ttnn.mock.installation import COMPILER, real_sfpi, ttnn_package, ttnn_version
from mochi_aot.runtime.ttnn.mock.stand_in import expected_version, stand_in_script

_LOGGER = logging.getLogger("mochi_aot")
_PARTS = ("tt_metal", "ttnn", "runtime/hw")


def runtime_root() -> Path:
    """Return the path by which ttnn shall know the root for the ttnn and the compiler that are installed, and make it.

    Those with the stand-in compiler have a path of their own, so that its kernels are never found for real ones.
    A path that no other process has is told as a warning. Raises OSError, CacheError, MockPlatformError,
    TtnnMissingError and MockMeshError, and BackendError where ttnn cannot use the path.
    """
    name = f"ttnn-{ttnn_version()}" + ("" if real_sfpi(ttnn_package()) else "-stand-in")
    place = cache_folder() / name
    make_root(place)
    root = path_for_ttnn(place)
    if not is_fixed(root):
        _LOGGER.warning("ttnn's root is at %s in this process: it finds no kernels that were built elsewhere", root)
    return root


def make_root(root: Path) -> None:
    """Make a root here, or what is missing of it.

    Raises OSError, and CacheError where its stand-in compiler cannot be run.
    """
    package = ttnn_package()
    for part in _PARTS:
        _link(root / part, package / part)
    sfpi = real_sfpi(package)
    if sfpi is not None:
        _link(root / "runtime/sfpi", sfpi)
    else:
        compiler = write(root / "runtime/sfpi" / COMPILER, stand_in_script(expected_version(package)), mode=0o755)
        try:
            subprocess.run([compiler, "--version"], check=True, capture_output=True)
        except PermissionError as error:
            advice = f"set {VARIABLE} to a folder where they can"
            raise CacheError(f"no programs can be run in {root}: {error.strerror}; {advice}") from None


def compiler_version(root: Path) -> str:
    """Return what the root's kernel compiler says it is. Raises OSError."""
    command = [str(root / "runtime/sfpi" / COMPILER), "--version"]
    # The compiler inherits this process's files, as one of them may be the root: see fixed_path.py.
    done = subprocess.run(command, check=True, capture_output=True, text=True, close_fds=False)
    return done.stdout.partition("\n")[0]


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    """Write a file, whole, and its folders, unless it holds this text already; returns its path.

    Several processes may do so at the same time. Raises OSError.
    """
    if path.is_file() and path.read_text() == text:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.write_text(text)
        new.chmod(mode)
    return path


def _link(path: Path, target: Path) -> None:
    """Make a symbolic link, and its folders. One that leads somewhere is left as it is: environments share a root."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.symlink_to(target)
