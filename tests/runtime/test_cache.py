"""The folder for what can be made again."""

from pathlib import Path

import pytest

from mochi_aot.runtime.cache import cache_folder
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
