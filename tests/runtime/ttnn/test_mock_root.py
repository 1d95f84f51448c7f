"""ttnn's runtime root: at one path for all where that is possible, else in the user's cache folder."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from mochi_aot.runtime.ttnn.mock import installation, root
from mochi_aot.runtime.ttnn.mock.installation import COMPILER, ttnn_package

NAME = f"ttnn-{version('ttnn')}-stand-in"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root, "_SHARED", tmp_path / "shared")
    monkeypatch.setattr(installation, "_SYSTEM_SFPI", tmp_path / "no sfpi")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_is_under_a_path_for_all_that_only_its_owner_writes_to(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert root.runtime_root() == root.runtime_root() == tmp_path / "shared" / NAME
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o700
    assert "riscv-tt-elf-g++" in root.compiler_version(tmp_path / "shared" / NAME)


def make_symlink(path: Path) -> None:
    path.with_name("elsewhere").mkdir()
    path.symlink_to(path.with_name("elsewhere"))


def make_writable_for_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


@pytest.mark.parametrize("make", [make_symlink, make_writable_for_others, Path.touch])
def test_what_others_could_change_is_not_used(make, tmp_path: Path) -> None:
    make(tmp_path / "shared")
    assert root.runtime_root() == tmp_path / "cache/mochi-aot" / NAME
    assert (tmp_path / "cache/mochi-aot" / NAME / "ttnn").readlink() == ttnn_package() / "ttnn"


def test_another_users_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "shared").stat().st_uid + 1)
    assert root.runtime_root() == tmp_path / "cache/mochi-aot" / NAME
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_file_system_that_runs_no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run

    def refused(command, **options):
        if Path(command[0]).is_relative_to(tmp_path / "shared"):
            raise PermissionError(13, "Permission denied", str(command[0]))
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", refused)
    assert root.runtime_root() == tmp_path / "cache/mochi-aot" / NAME


def test_a_link_that_leads_somewhere_stays_and_others_are_mended(tmp_path: Path) -> None:
    made = root.runtime_root()
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
    assert made == tmp_path / "shared" / NAME.removesuffix("-stand-in")
    assert (made / "runtime/sfpi").readlink() == tmp_path / "sfpi"
    assert root.compiler_version(made) == "g++ 1"
