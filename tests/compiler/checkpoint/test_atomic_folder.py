from pathlib import Path

import pytest

from mochi_aot.compiler.checkpoint.atomic_folder import atomic_folder
from mochi_aot.compiler.checkpoint.errors import CheckpointError


def _write(path: Path, content: str, replace: bool = False) -> None:
    with atomic_folder(path, replace) as folder:
        (folder / "model_index.json").write_text(content)
        assert not path.exists() or (path / "model_index.json").read_text() != content


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    _write(tmp_path / "deep" / "x", "new")
    assert (tmp_path / "deep" / "x" / "model_index.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x"]


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_a_failure(fault: type[BaseException], there: bool, tmp_path: Path) -> None:
    if there:
        _write(tmp_path / "x", "old")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with pytest.raises(fault), atomic_folder(tmp_path / "x", there) as folder:
        (folder / "half").write_text("written")
        raise fault
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_an_existing_path_is_kept(tmp_path: Path) -> None:
    _write(tmp_path / "x", "old")
    with pytest.raises(CheckpointError, match=r"x exists: .*--force"):
        _write(tmp_path / "x", "new")
    assert (tmp_path / "x" / "model_index.json").read_text() == "old"


def test_a_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    _write(tmp_path / "x", "old")
    (tmp_path / "x" / "leftover").touch()
    _write(tmp_path / "x", "new", replace=True)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["model_index.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_only_a_checkpoint_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for name, reason in (("home", "not a checkpoint"), ("file", "not a folder"), ("link", "not a folder")):
        with pytest.raises(CheckpointError, match=f"{name} is {reason} and will not be replaced"):
            _write(tmp_path / name, "new", replace=True)
    assert (tmp_path / "home" / "letters").exists()
