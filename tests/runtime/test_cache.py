"""Where files are kept that can be made again: in a folder that is this user's alone."""

import multiprocessing
import os
import signal
import stat
import tempfile
from pathlib import Path

import pytest

from mochi_aot.runtime import cache
from mochi_aot.runtime.cache import cache_folder, ensure_home, ensure_temporary_files, temporary_folder
from mochi_aot.runtime.errors import CacheError


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a home, and no other variables that say where files belong."""
    for name in ("MOCHI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "home/.cache/mochi-aot"),
        ({"XDG_CACHE_HOME": "{}/x"}, "x/mochi-aot"),
        ({"XDG_CACHE_HOME": "x"}, "home/.cache/mochi-aot"),  # relative: to be ignored
        ({"XDG_CACHE_HOME": ""}, "home/.cache/mochi-aot"),
        ({"MOCHI_CACHE": "{}/m", "XDG_CACHE_HOME": "{}/x"}, "m"),
        ({"MOCHI_CACHE": "here/m"}, "here/m"),  # relative to the working folder
        ({"MOCHI_CACHE": ""}, "home/.cache/mochi-aot"),
    ],
)
def test_the_first_variable_that_is_set_counts(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert cache_folder() == tmp_path / expected
    assert stat.S_IMODE((tmp_path / expected).stat().st_mode) == 0o700


def test_a_named_folder_may_be_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "big disk")
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "link"))
    assert cache_folder() == tmp_path / "big disk"


def test_in_a_folder_that_others_can_write_to_each_user_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all").chmod(0o1777)
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "all"))
    assert cache_folder() == cache_folder() == tmp_path / f"all/user-{os.geteuid()}"
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700


def a_link(path: Path) -> None:
    path.with_name("elsewhere").mkdir()
    path.symlink_to(path.with_name("elsewhere"))


def writable_for_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


@pytest.mark.parametrize("make", [a_link, writable_for_others])
def test_what_others_have_put_there_is_not_used(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writable_for_others(tmp_path / "all")
    make(tmp_path / f"all/user-{os.geteuid()}")
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "all"))
    with pytest.raises(CacheError, match="is not this user's alone; set MOCHI_CACHE to a folder that can be written"):
        cache_folder()


def test_another_users_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)
    me = os.geteuid()
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "theirs"))
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(CacheError, match=f"cannot keep files in .*user-{me + 1} is not this user's alone"):
        cache_folder()


def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)


def a_home_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").touch()


@pytest.mark.parametrize("case", [no_home, a_home_that_is_no_folder])
def test_without_a_home_it_is_with_temporary_files(case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case(tmp_path, monkeypatch)
    assert cache_folder() == tmp_path / f"temporary/mochi-aot-{os.geteuid()}"


def test_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(cache, "_private", refuse)
    with pytest.raises(CacheError, match=r"no folder .*home/.cache/mochi-aot: Permission denied\), nor one for temp"):
        cache_folder()


def test_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "file/m"))
    with pytest.raises(CacheError, match=r"cannot keep files in .*file/m: Not a directory; set MOCHI_CACHE"):
        cache_folder()


@pytest.mark.parametrize(
    ("variable", "found", "expected"),
    [("/home/u", "/home/v", "/home/u"), (None, "/home/v", "/home/v"), (None, "~", "{}/m")],
)
def test_home_is_set_where_it_is_not(
    variable: str | None, found: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`found` is what the user database has: a user of a container may not be in it."""
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "m"))
    monkeypatch.setenv("HOME", variable or "")
    if variable is None:
        monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: found)
    ensure_home()
    assert os.environ["HOME"] == expected.format(tmp_path)


def test_where_temporary_files_go_is_left_alone_if_there_is_a_place(tmp_path: Path) -> None:
    ensure_temporary_files()
    assert os.environ["TMPDIR"] == str(tmp_path / "temporary")


def test_and_else_is_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none)
    ensure_temporary_files()
    assert Path(os.environ["TMPDIR"]) == tmp_path / "home/.cache/mochi-aot/temporary"
    assert Path(os.environ["TMPDIR"]).is_dir()


def test_a_temporary_folder_is_empty_and_goes_away(tmp_path: Path) -> None:
    with temporary_folder("a") as first, temporary_folder("a") as second:
        assert first != second and first.parents[1] == second.parents[1] == cache_folder() / "temporary"
        assert list(first.iterdir()) == list(second.iterdir()) == []
        (first / "file").touch()
    assert not first.exists() and not second.exists()


def _take_and_wait(ready) -> None:
    with temporary_folder("killed") as folder:
        (folder / "file").touch()
        ready.send(folder)
        signal.pause()


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    """And not before it is dead."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_take_and_wait, args=(theirs,))
    process.start()
    left = ours.recv()
    with temporary_folder("other"):
        assert (left / "file").exists()
    process.kill()
    process.join()
    assert (left / "file").exists()
    with temporary_folder("other"):
        assert not left.exists()
