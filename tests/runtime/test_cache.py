"""The folder for what can be made again."""

import os
import tempfile
from pathlib import Path

import pytest

from mochi_aot.runtime.cache import cache_folder, ensure_home
from mochi_aot.runtime.errors import BackendError


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("/somewhere", "/somewhere/mochi-aot"), ("", "/home/u/.cache/mochi-aot"), ("here", "/home/u/.cache/mochi-aot")],
)
def test_the_variable_counts_if_it_is_an_absolute_path(
    variable: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert cache_folder() == Path(expected)


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(BackendError, match="set XDG_CACHE_HOME"):
        cache_folder()


@pytest.mark.parametrize(
    ("variable", "found", "expected"),
    [("/home/u", "/home/v", "/home/u"), (None, "/home/v", "/home/v"), (None, "~", tempfile.gettempdir())],
)
def test_home_is_set_where_it_is_not(
    variable: str | None, found: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`found` is what the user database has: a user of a container may not be in it."""
    monkeypatch.setenv("HOME", variable or "")
    if variable is None:
        monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: found)
    ensure_home()
    assert os.environ["HOME"] == expected
