"""The stand-in for the SFPI kernel compiler, what it builds, and the folders that what it has built is kept in.

It is enough for ttnn to build kernels that no device will ever run.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.runtime.cache import making
from mochi_aot.runtime.ttnn.mock.errors import MockMeshError

# Put where the stand-in, or what it has built, lies.
MARK = "stand-in for the SFPI compiler; its kernels do nothing and are for mock meshes only"

# A shell script that starts no process of its own: a dry run builds thousands of kernels, and the start of an
# interpreter would be most of their time.
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
    """Return the script: it answers `--version` with `version`, compiles to empty files and links `kernel_elf()`."""
    elf = "".join(f"\\{byte:03o}" for byte in kernel_elf())
    return _SCRIPT.format(mark=MARK, version=version, elf=elf)


def expected_version(package: Path) -> str:
    """Return what the SFPI release that an installed ttnn names (`tt_metal/sfpi-version`) answers to `--version`.

    Raises MockMeshError if the file does not say.
    """
    path = package / "tt_metal/sfpi-version"
    try:
        names = dict(re.findall(r"^(sfpi_\w+)='(.*)'$", path.read_text(), re.MULTILINE))
        return f"riscv-tt-elf-g++ (tenstorrent/sfpi:{names['sfpi_version']}[{names['sfpi_build']}]) 15.1.0"
    except (OSError, KeyError) as error:
        raise MockMeshError(f"cannot tell from {path} which SFPI release this ttnn wants: {error}") from error


# Lies in every folder of kernels that a stand-in has built.
MARK_FILE = "STAND-IN"


def holds_stand_ins(cache: Path) -> bool:
    """Return whether a folder's kernels were built by the stand-in compiler, and so must never reach a chip."""
    return (cache / MARK_FILE).exists()


def claim_cache(cache: Path, real: bool) -> None:
    """Make the folder, and mark it if the stand-in will fill it. Raises MockMeshError if it holds the other kind.

    Processes may claim the same folder at the same time.
    """
    if real:
        cache.mkdir(parents=True, exist_ok=True)
        if holds_stand_ins(cache):
            raise MockMeshError(f"{cache} holds a stand-in's kernels, not a real compiler's: give another folder")
    elif not holds_stand_ins(cache):
        _make_marked(cache)
        if not holds_stand_ins(cache):
            raise MockMeshError(f"{cache} holds files that the stand-in compiler did not make: give an empty folder")


def _make_marked(cache: Path) -> None:
    """Make the folder appear with its mark, unless it is there and not empty."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with making(cache) as folder:
        new = folder / "new"
        new.mkdir()
        (new / MARK_FILE).write_text(f"{MARK}\n")
        try:
            new.rename(cache)
        except OSError:
            if not cache.is_dir():
                raise


# The one do-nothing RISC-V kernel. Of a kernel that it has built ttnn wants a 32-bit little-endian RISC-V executable
# with one loadable segment, holding the entry point, and at least one section of relocations, by which ttnn makes the
# code position independent. Layouts and numbers are those of the ELF specification (System V ABI, chapters 4 and 5) and
# its RISC-V supplement.

# Where a Wormhole kernel may lie in a core's memory, behind the firmware; ttnn moves it from there.
_ADDRESS = 0x8000
# start: jal x0, done / done: jalr x0, 0(ra). It jumps to its return, and returns.
_CODE = struct.pack("<2I", 0x0040006F, 0x00008067)

_HEADER, _SEGMENT, _SECTION = struct.Struct("<16s2H5I6H"), struct.Struct("<8I"), struct.Struct("<10I")
_SYMBOL, _RELOCATION = struct.Struct("<3I2BH"), struct.Struct("<2Ii")
_IDENTITY = b"\x7fELF" + bytes([1, 1, 1])  # 32 bits, little endian, version 1
_EXECUTABLE, _RISCV, _VERSION = 2, 243, 1
_LOAD, _READ_EXECUTE = 1, 5
_R_RISCV_JAL = 17
_GLOBAL_FUNCTION = 0x12


@dataclass(frozen=True)
class _Section:
    """A row of the table of sections, and the contents."""

    name: bytes
    kind: int
    contents: bytes
    flags: int = 0
    address: int = 0
    link: int = 0
    info: int = 0
    entry_size: int = 0


def kernel_elf() -> bytes:
    """Return the bytes of the linked kernel: header, segment, contents of the sections, table of sections."""
    sections = _sections()
    names = sections[-1].contents
    offset = _HEADER.size + _SEGMENT.size
    segment = _SEGMENT.pack(_LOAD, offset, _ADDRESS, _ADDRESS, len(_CODE), len(_CODE), _READ_EXECUTE, 4)
    table = bytes(_SECTION.size)  # section 0 is none
    for s in sections:
        name, size = names.index(s.name + b"\0"), len(s.contents)
        table += _SECTION.pack(name, s.kind, s.flags, s.address, offset, size, s.link, s.info, 4, s.entry_size)
        offset += size
    header = (_IDENTITY, _EXECUTABLE, _RISCV, _VERSION, _ADDRESS, _HEADER.size, offset, 0)
    sizes = (_HEADER.size, _SEGMENT.size, 1, _SECTION.size, len(sections) + 1, len(sections))
    return _HEADER.pack(*header, *sizes) + segment + b"".join(s.contents for s in sections) + table


def _sections() -> list[_Section]:
    """Return sections 1 to 5, in the order of the file; each names others by number."""
    names = _whole_words(b"\0.text\0.rela.text\0.symtab\0.strtab\0.shstrtab\0")
    labels = _whole_words(b"\0start\0done\0")
    symbols = bytes(_SYMBOL.size)  # symbol 0 is none
    for label, place in ((b"start", 0), (b"done", 4)):
        symbols += _SYMBOL.pack(labels.index(label), _ADDRESS + place, 4, _GLOBAL_FUNCTION, 0, 1)
    relocations = _RELOCATION.pack(_ADDRESS, 2 << 8 | _R_RISCV_JAL, 0)  # the jump goes to symbol 2
    return [
        _Section(b".text", kind=1, contents=_CODE, flags=0x6, address=_ADDRESS),  # allocated, executable
        _Section(b".rela.text", kind=4, contents=relocations, flags=0x40, link=3, info=1, entry_size=_RELOCATION.size),
        _Section(b".symtab", kind=2, contents=symbols, link=4, info=1, entry_size=_SYMBOL.size),
        _Section(b".strtab", kind=3, contents=labels),
        _Section(b".shstrtab", kind=3, contents=names),
    ]


def _whole_words(contents: bytes) -> bytes:
    return contents + bytes(-len(contents) % 4)
