"""The folder of programs' texts: old ones stay until the new ones are whole, and nothing else is replaced."""

import errno
import os
from pathlib import Path

import pytest

from mochi_aot.artifacts import staging
from mochi_aot.artifacts.errors import BundleError, exit_code
from mochi_aot.compiler.errors import IRFolderError
from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir_files import IRFiles
from mochi_aot.compiler.passes.pipeline import Applied

OLD, NEW = "16x16x7.old.01.trace.ir", "16x16x7.p.01.trace.ir"


def program() -> Program:
    builder = Builder("p")
    builder.output("y", builder.input("x", TensorType((4,), "float32"), "latent"))
    return builder.program


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an old text."""
    folder = tmp_path / "ir"
    folder.mkdir()
    (folder / OLD).write_text("old")
    return folder


def write(files: IRFiles) -> None:
    files.after_pass(Applied("16x16x7", "trace", program(), 0.0, 0.0))


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text()[:9] for path in folder.rglob("*") if path.is_file()}


def test_old_texts_stand_until_the_new_ones_do(place: Path) -> None:
    with IRFiles(place, force=True) as files:
        write(files)
        assert contents(place) == {OLD: "old"}
        files.publish()
        assert list(place.parent.iterdir()) == [place]  # already: the compile goes on
    assert contents(place.parent) == {f"ir/{NEW}": "program @"}


def test_without_publishing_nothing_is_left(place: Path) -> None:
    with pytest.raises(ZeroDivisionError), IRFiles(place, force=True) as files:
        write(files)
        raise ZeroDivisionError
    assert contents(place.parent) == {f"ir/{OLD}": "old"} and list(place.parent.iterdir()) == [place]


def test_old_texts_come_back_if_the_new_ones_cannot_be_moved(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(one: Path, other: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(staging, "exchange", fail)
    with (
        pytest.raises(BundleError, match=rf"^cannot write {place}: Input/output error$"),
        IRFiles(place, True) as files,
    ):
        write(files)
        files.publish()
    assert contents(place.parent) == {f"ir/{OLD}": "old"} and list(place.parent.iterdir()) == [place]


def test_what_a_killed_compile_has_left_is_removed_and_old_texts_that_it_moved_away_come_back(place: Path) -> None:
    killed = place.parent / f".ir.partial-{os.getuid()}" / "killed"
    killed.mkdir(parents=True)
    place.rename(killed / "old")
    with pytest.raises(IRFolderError, match="exists and is not empty; choose another folder, or use --force"):
        IRFiles(place, force=False).__enter__()
    assert contents(place.parent) == {f"ir/{OLD}": "old"} and list(place.parent.iterdir()) == [place]


@pytest.mark.parametrize("force", [False, True])
def test_nothing_else_is_replaced(place: Path, force: bool) -> None:
    (place / "notes.txt").touch()
    (place.parent / "link").symlink_to(place)
    (place.parent / "file.ir").touch()
    for path, problem in (
        (place, r"holds notes\.txt, which is no program's text; choose another folder, or an empty one"),
        (place.parent / "link", "exists and is not a folder; choose another place for the programs' text"),
        (place.parent / "file.ir", "exists and is not a folder"),
    ):
        with pytest.raises(IRFolderError, match=rf"^{path} {problem}") as caught:
            IRFiles(path, force).__enter__()
        assert exit_code(caught.value) == 4
    assert {path.name for path in place.parent.iterdir()} == {"ir", "link", "file.ir"}


def test_what_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(IRFolderError, match="exists and is not empty"), IRFiles(tmp_path / "ir", False) as files:
        (tmp_path / "ir").mkdir()
        (tmp_path / "ir" / OLD).write_text("theirs")
        files.publish()
    assert contents(tmp_path) == {f"ir/{OLD}": "theirs"}


def test_an_empty_folder_and_a_place_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "ir").mkdir()
    with IRFiles(tmp_path / "ir", False) as files:
        write(files)
        files.publish()
    assert set(contents(tmp_path)) == {f"ir/{NEW}"}
    with pytest.raises(BundleError, match=rf"^cannot write in {tmp_path}/none: No such file or directory$") as caught:
        IRFiles(tmp_path / "none" / "ir", False).__enter__()
    assert exit_code(caught.value) == 3
