"""ttnn's runtime root: what is in it, and that its path is the same for all."""

import logging
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from mochi_aot.runtime.errors import CacheError
from mochi_aot.runtime.ttnn import fixed_path
from mochi_aot.runtime.ttnn.mock import installation, root
from mochi_aot.runtime.ttnn.mock.installation import COMPILER, ttnn_package

NAME = f"ttnn-{version('ttnn')}-stand-in"
FIXED = Path("/proc/self/fd/1000")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_number: None) -> None:
    monkeypatch.setattr(installation, "_SYSTEM_SFPI", tmp_path / "no sfpi")
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "my cache"))


def test_its_path_is_the_same_whatever_the_cache_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert root.runtime_root() == root.runtime_root() == FIXED / NAME
    assert (FIXED / NAME).samefile(tmp_path / "my cache" / NAME)
    assert "riscv-tt-elf-g++" in root.compiler_version(FIXED / NAME)
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "another"))
    assert root.runtime_root() == FIXED / NAME
    assert (FIXED / NAME).samefile(tmp_path / "another" / NAME)


def test_a_compiler_that_is_not_started_by_python_finds_the_path(tmp_path: Path) -> None:
    """As ttnn starts it: by the C library's system()."""
    made = root.runtime_root()
    assert os.system(f"{made / 'runtime/sfpi' / COMPILER} --version > {tmp_path}/said") == 0
    assert "riscv-tt-elf-g++" in (tmp_path / "said").read_text()


def test_a_number_that_is_in_use_is_left_alone_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fixed_path, "_NUMBER", 1001)
    monkeypatch.setattr(fixed_path, "_FIXED", Path("/proc/self/fd/1001"))
    monkeypatch.setattr(fixed_path, "_taken", [])
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "plain"))
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    os.dup2(descriptor, 1001)
    try:
        with caplog.at_level(logging.WARNING, "mochi_aot"):
            assert root.runtime_root() == tmp_path / "plain" / NAME
        assert os.path.samestat(os.fstat(1001), os.fstat(descriptor))
    finally:
        os.close(descriptor)
        os.close(1001)
    [message] = caplog.messages
    assert message == f"ttnn's root is at {tmp_path}/plain/{NAME} in this process: it finds no kernels that were " + (
        "built elsewhere"
    )


def test_a_file_system_that_runs_no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(command, **options):
        raise PermissionError(13, "Permission denied", str(command[0]))

    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(CacheError, match=r"no programs can be run in .*my cache.*; set MOCHI_CACHE to a folder where"):
        root.runtime_root()


def test_a_link_that_leads_somewhere_stays_and_others_are_mended(tmp_path: Path) -> None:
    root.runtime_root()
    made = tmp_path / "my cache" / NAME
    (tmp_path / "other/ttnn").mkdir(parents=True)
    (made / "ttnn").unlink()
    (made / "ttnn").symlink_to(tmp_path / "other/ttnn")
    root.runtime_root()
    assert (made / "ttnn").readlink() == tmp_path / "other/ttnn"
    (tmp_path / "other/ttnn").rmdir()
    root.runtime_root()
    assert (made / "ttnn").readlink() == ttnn_package() / "ttnn"


def test_a_real_compiler_has_a_root_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "sfpi" / COMPILER
    compiler.parent.mkdir(parents=True)
    compiler.write_text("#!/bin/sh\necho g++ 1\necho more\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(installation, "_SYSTEM_SFPI", tmp_path / "sfpi")
    made = root.runtime_root()
    assert made == FIXED / NAME.removesuffix("-stand-in")
    assert (made / "runtime/sfpi").readlink() == tmp_path / "sfpi"
    assert root.compiler_version(made) == "g++ 1"
