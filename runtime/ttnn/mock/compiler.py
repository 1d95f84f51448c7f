"""The stand-in for the SFPI kernel compiler: enough for ttnn to build kernels that no device will ever run.

It is a shell script that starts no process of its own, since a dry run builds thousands of kernels, and the start of an
interpreter would be most of their time.
"""

import re
from pathlib import Path

from mochi_aot.runtime.ttnn.mock.elf import kernel_elf
from mochi_aot.runtime.ttnn.mock.errors import MockMeshError

# Put where the stand-in, or what it has built, lies.
MARK = "stand-in for the SFPI compiler; its kernels do nothing and are for mock meshes only"

# ttnn calls it for versions (--version), precompiled headers (-x c++-header), compiling (-c) and linking.
_SCRIPT = """\
#!/bin/sh
# {mark}
if [ "$1" = --version ]; then echo '{version}'; exit; fi
out= deps= source= step=link
while [ $# -gt 0 ]; do
  case $1 in
    -o) out=$2; shift ;;
    -MF) deps=$2; shift ;;
    -c | c++-header) step=compile ;;
    *.cc | *.cpp | *.S) source=$1 ;;
  esac
  shift
done
if [ -z "$out" ]; then echo 'the stand-in compiler needs -o FILE' >&2; exit 1; fi
if [ -n "$deps" ]; then echo "$out: $source" > "$deps" || exit; fi
if [ $step = compile ]; then : > "$out"; else printf '{elf}' > "$out"; fi
"""


def stand_in_script(version: str) -> str:
    """The script: it answers `--version` with `version`, compiles to empty files and links the one kernel of elf.py."""
    elf = "".join(f"\\{byte:03o}" for byte in kernel_elf())
    return _SCRIPT.format(mark=MARK, version=version, elf=elf)


def expected_version(package: Path) -> str:
    """What the SFPI release that an installed ttnn names (`tt_metal/sfpi-version`) answers to `--version`."""
    path = package / "tt_metal/sfpi-version"
    try:
        names = dict(re.findall(r"^(sfpi_\w+)='(.*)'$", path.read_text(), re.MULTILINE))
        return f"riscv-tt-elf-g++ (tenstorrent/sfpi:{names['sfpi_version']}[{names['sfpi_build']}]) 15.1.0"
    except (OSError, KeyError) as error:
        raise MockMeshError(f"cannot tell from {path} which SFPI release this ttnn wants: {error}") from error
