"""What is installed here: ttnn, and perhaps a real kernel compiler."""

import importlib.util
import platform
from pathlib import Path

from mochi_aot.artifacts.versions import installed_version
from mochi_aot.runtime.ttnn.mock.errors import MockPlatformError, TtnnMissingError

# In an SFPI folder. ttnn compiles and links by this one program.
COMPILER = Path("compiler/bin/riscv-tt-elf-g++")
# Where SFPI's own packages install it.
_SYSTEM_SFPI = Path("/opt/tenstorrent/sfpi")


def ttnn_package() -> Path:
    """Return the folder of the installed ttnn, found without importing ttnn.

    Raises MockPlatformError, TtnnMissingError.
    """
    here = f"{platform.system()} {platform.machine()}"
    if here != "Linux x86_64":
        raise MockPlatformError(f"ttnn runs on Linux x86_64 only, and this is {here}: use the torch target here")
    spec = importlib.util.find_spec("ttnn")
    if spec is None or not spec.submodule_search_locations:
        raise TtnnMissingError("ttnn is not installed: pip install mochi-aot")
    return Path(spec.submodule_search_locations[0])


def ttnn_version() -> str:
    """Return the version of the installed ttnn. Raises TtnnMissingError."""
    version = installed_version("ttnn")
    if version is None:
        raise TtnnMissingError("ttnn is not installed: pip install mochi-aot")
    return version


def real_sfpi(package: Path) -> Path | None:
    """Return where ttnn would find a real SFPI: in its own package, or where the system's packages put it."""
    places = (package / "runtime/sfpi", _SYSTEM_SFPI)
    return next((sfpi for sfpi in places if (sfpi / COMPILER).is_file()), None)
