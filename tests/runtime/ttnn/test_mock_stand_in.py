"""The stand-in for the kernel compiler, and the kernel that it links."""

import struct
import subprocess
from pathlib import Path

import pytest

from mochi_aot.runtime.ttnn.mock.errors import MockMeshError
from mochi_aot.runtime.ttnn.mock.stand_in import expected_version, kernel_elf, stand_in_script

VERSION = "riscv-tt-elf-g++ (tenstorrent/sfpi:1.2.3[45]) 15.1.0"


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    path = tmp_path / "riscv-tt-elf-g++"
    path.write_text(stand_in_script(VERSION))
    path.chmod(0o755)
    return path


def run(compiler: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([compiler, *arguments], capture_output=True, text=True, cwd=compiler.parent)


def test_it_answers_with_the_version_that_ttnn_expects(compiler: Path) -> None:
    assert run(compiler, "--version").stdout == VERSION + "\n"


def test_it_compiles_to_an_empty_object_with_its_dependencies(compiler: Path) -> None:
    done = run(compiler, "-O3", "-DKERNEL", "-c", "-o", "k.o", "/src/k.cc", "-MF", "k.d")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (compiler.parent / "k.o").read_bytes() == b""
    assert (compiler.parent / "k.d").read_text() == "k.o: /src/k.cc\n"


def test_it_precompiles_headers_to_nothing(compiler: Path) -> None:
    assert run(compiler, "-x", "c++-header", "pch.h", "-o", "pch.h.gch").returncode == 0
    assert (compiler.parent / "pch.h.gch").read_bytes() == b""


def test_it_links_the_one_kernel(compiler: Path) -> None:
    assert run(compiler, "-O3", "-Tkernel.ld", "-Wl,--emit-relocs", "k.o", "-o", "k.elf").returncode == 0
    assert (compiler.parent / "k.elf").read_bytes() == kernel_elf()


def test_it_fails_without_an_output_or_where_it_cannot_write(compiler: Path) -> None:
    assert run(compiler, "-c", "k.cc").returncode == 1
    assert run(compiler, "-c", "-o", "missing/k.o", "k.cc").returncode != 0
    assert run(compiler, "k.o", "-o", "missing/k.elf").returncode != 0


def test_the_kernel_is_a_risc_v_executable_with_one_relocation() -> None:
    elf = kernel_elf()
    assert elf[:7] == b"\x7fELF\x01\x01\x01"
    kind, machine, _, entry, segments_at, sections_at = struct.unpack_from("<2H4I", elf, 16)
    assert (kind, machine) == (2, 243)
    load, offset, address, _, size, _, flags, _ = struct.unpack_from("<8I", elf, segments_at)
    assert (load, address, flags) == (1, entry, 5)
    # jal x0, +4 and jalr x0, 0(ra), as the RISC-V manual encodes them.
    assert elf[offset : offset + size].hex() == "6f004000" + "67800000"
    sections = [struct.unpack_from("<10I", elf, sections_at + 40 * i) for i in range(6)]
    assert len(elf) == sections_at + 40 * 6
    assert [section[1] for section in sections] == [0, 1, 4, 2, 3, 3]
    assert all(section[4] % 4 == 0 and section[5] % 4 == 0 for section in sections)
    names = elf[sections[5][4] :]
    assert [names[s[0] :].split(b"\0")[0] for s in sections[1:]] == [
        b".text",
        b".rela.text",
        b".symtab",
        b".strtab",
        b".shstrtab",
    ]
    place, what, addend = struct.unpack_from("<2Ii", elf, sections[2][4])
    assert (place, what, addend) == (entry, 2 << 8 | 17, 0)


def test_the_version_is_read_from_the_installed_package(tmp_path: Path) -> None:
    (tmp_path / "tt_metal").mkdir()
    (tmp_path / "tt_metal/sfpi-version").write_text("# sfpi\nsfpi_version='1.2.3'\nsfpi_build='45'\n")
    assert expected_version(tmp_path) == VERSION


@pytest.mark.parametrize("text", [None, "sfpi_version='1.2.3'\n"])
def test_a_package_that_names_no_version(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "tt_metal").mkdir()
    if text is not None:
        (tmp_path / "tt_metal/sfpi-version").write_text(text)
    with pytest.raises(MockMeshError, match=r"cannot tell from .*sfpi-version which SFPI release this ttnn wants"):
        expected_version(tmp_path)
