from pathlib import Path

import pytest

from mochi_aot.compiler.hub.names import hub_name, is_hub_id


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("genmo/mochi-1-preview", "mochi-1-preview"),
        ("a/b.c", "b.c"),
        ("mochi", None),
        ("a/b/c", None),
        ("/a/b", None),
        ("./a", None),
        ("../a", None),
        ("~/a", None),
        ("a/", None),
        ("", None),
    ],
)
def test_ids(text: str, name: str | None) -> None:
    assert hub_name(text) == name
    assert is_hub_id(text) == (name is not None)


def test_a_path_that_exists_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genmo" / "mochi").mkdir(parents=True)
    assert not is_hub_id("genmo/mochi") and hub_name("genmo/mochi") is None


@pytest.mark.parametrize("below", ["", "/snapshots/0123456789"])
def test_the_cache_has_names(below: str) -> None:
    assert hub_name(f"/cache/models--genmo--mochi-1-preview{below}") == "mochi-1-preview"
