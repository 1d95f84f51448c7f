"""ttnn's runtime root as a folder of links into the installed package, at a path that is the same on most machines.

ttnn finds a kernel in its cache again only if its runtime root has the path under which the kernel was built. That of
the installed package differs from environment to environment.
"""

import os
import stat
import subprocess
from pathlib import Path

from mochi_aot.runtime.cache import cache_folder
from mochi_aot.runtime.ttnn.mock.compiler import expected_version, stand_in_script
from mochi_aot.runtime.ttnn.mock.files import link, write
from mochi_aot.runtime.ttnn.mock.installation import COMPILER, real_sfpi, ttnn_package, ttnn_version

# Everyone's, and so only used by the user who makes it first.
_SHARED = Path("/tmp/mochi-aot")
_PARTS = ("tt_metal", "ttnn", "runtime/hw")


def runtime_root() -> Path:
    """The root for the ttnn and the compiler that are installed, made if it is not there.

    Under /tmp/mochi-aot; in this user's cache folder where that is another user's, or no programs can be run there.
    Those with the stand-in compiler have a path of their own, so that its kernels are never found for real ones.
    Raises OSError, MockPlatformError, TtnnMissingError and MockMeshError.
    """
    name = f"ttnn-{ttnn_version()}" + ("" if real_sfpi(ttnn_package()) else "-stand-in")
    if _is_own(_SHARED):
        try:
            return linked_root(_SHARED / name)
        except OSError:
            pass
    return linked_root(cache_folder() / name)


def linked_root(root: Path) -> Path:
    """Make a root here, or what is missing of it. Raises OSError, also where its stand-in compiler cannot be run."""
    package = ttnn_package()
    for part in _PARTS:
        _link(root / part, package / part)
    sfpi = real_sfpi(package)
    if sfpi is not None:
        _link(root / "runtime/sfpi", sfpi)
    else:
        compiler = write(root / "runtime/sfpi" / COMPILER, stand_in_script(expected_version(package)), mode=0o755)
        subprocess.run([compiler, "--version"], check=True, capture_output=True)
    return root


def compiler_version(root: Path) -> str:
    """What the root's kernel compiler says it is. Raises OSError."""
    command = [str(root / "runtime/sfpi" / COMPILER), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.partition("\n")[0]


def _link(path: Path, target: Path) -> None:
    """Environments with the same ttnn share a root, so a link that leads somewhere is left as it is."""
    if not path.exists():
        link(path, target)


def _is_own(folder: Path) -> bool:
    """Whether a folder, made if it is not there, is this user's alone to write to."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        seen = folder.lstat()
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & others
