import errno
import os
from pathlib import Path

import pytest

from mochi_aot.artifacts import Bundle, BundleError
from mochi_aot.artifacts.layout import MANIFEST_PATH
from mochi_aot.artifacts.staging import StagedFolder
from tests.artifacts.samples import write_bundle


def staged(path: Path, force: bool = False) -> StagedFolder:
    folder = StagedFolder(path, force)
    folder.create()
    (folder.folder / "content").write_text("new")
    return folder


def test_the_folder_appears_only_when_published(tmp_path: Path) -> None:
    folder = staged(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == [f".b.partial-{os.getpid()}"]
    folder.publish()
    folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b/content").read_text() == "new"


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    folder = staged(tmp_path / "b")
    folder.discard()
    folder.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder", "empty folder", "dangling link", "link to a bundle"])
def test_what_is_not_a_bundle_is_never_replaced(tmp_path: Path, force: bool, kind: str) -> None:
    path = tmp_path / "b"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / MANIFEST_PATH).write_text("not a bundle's")
    elif kind == "empty folder":
        path.mkdir()
    else:
        if kind == "link to a bundle":
            write_bundle(tmp_path / "target")
        path.symlink_to(tmp_path / "target")
    before = sorted(tmp_path.rglob("*"))
    expected = "is not a bundle, so --force does not replace it" if force else "exists; choose another path, or use"
    with pytest.raises(BundleError, match=expected):
        StagedFolder(path, force).create()
    assert sorted(tmp_path.rglob("*")) == before


def test_force_replaces_a_bundle_of_any_version(tmp_path: Path) -> None:
    path = tmp_path / "b"
    write_bundle(path)
    data = bytearray((path / MANIFEST_PATH).read_bytes())
    data[18] += 1  # 0x93, 0xb0, sixteen letters, then the version
    (path / MANIFEST_PATH).write_bytes(data)
    folder = staged(path, force=True)
    folder.publish()
    folder.discard()
    assert [found.name for found in tmp_path.rglob("*")] == ["b", "content"]


def test_force_without_an_old_bundle(tmp_path: Path) -> None:
    folder = staged(tmp_path / "b", force=True)
    folder.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_the_old_bundle_comes_back_if_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b"
    write_bundle(path)
    before = sorted(tmp_path.rglob("*"))
    folder = staged(path, force=True)
    rename = Path.rename

    def fail(source: Path, target: Path) -> Path:
        if source == folder.folder:
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(BundleError, match=r"cannot write .*/b: Input/output error"):
        folder.publish()
    assert not path.exists()
    folder.discard()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_path_taken_while_writing_is_left_alone(tmp_path: Path) -> None:
    folder = staged(tmp_path / "b")
    (tmp_path / "b").mkdir()
    with pytest.raises(BundleError, match=r"b exists; choose another path"):
        folder.publish()
    folder.discard()
    assert list(tmp_path.rglob("*")) == [tmp_path / "b"]


def remains_of(path: Path, pid: int = 1) -> Path:
    """What a process that was killed has left: nothing holds its journal's lock."""
    remains = path.parent / f".{path.name}.partial-{pid}"
    remains.mkdir()
    (remains / "journal").touch()
    return remains


@pytest.mark.parametrize("own", [False, True])
def test_the_remains_of_a_killed_run_are_removed(tmp_path: Path, own: bool) -> None:
    """Whoever has its process id now."""
    remains_of(tmp_path / "b", os.getpid() if own else 1)
    staged(tmp_path / "b").discard()
    assert list(tmp_path.iterdir()) == []


def test_to_resume_they_stay_until_the_end(tmp_path: Path) -> None:
    remains = remains_of(tmp_path / "b")
    folder = StagedFolder(tmp_path / "b", False, keep=True)
    folder.create()
    assert folder.remains == [remains]
    assert not folder.discard()  # it has finished nothing
    assert list(tmp_path.iterdir()) == [remains]
    folder = StagedFolder(tmp_path / "b", False, keep=True)
    folder.create()
    folder.publish()
    assert not folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    folder = staged(tmp_path / "b")
    for keep in (False, True):
        other = StagedFolder(tmp_path / "b", False, keep)
        other.create()
        assert other.remains == [] and other.folder != folder.folder
        other.discard()
    assert (folder.folder / "content").read_text() == "new"


def test_a_bundle_that_a_killed_run_moved_away_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "b"
    old = write_bundle(path)
    path.rename(tmp_path / ".b.replaced-1")
    with pytest.raises(BundleError, match="b exists; choose another path"):
        StagedFolder(path, False).create()
    assert Bundle.open(path).id == old
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_around_it_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none is not a folder; make it first"):
        StagedFolder(tmp_path / "none" / "b", False).create()
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"file is not a folder; make it first"):
        StagedFolder(tmp_path / "file" / "b", False).create()


@pytest.mark.parametrize("path", ["/", "/a/.."])
def test_a_path_must_end_in_a_name(path: str) -> None:
    with pytest.raises(BundleError, match=rf"^{path} is not a name for a bundle$"):
        StagedFolder(Path(path), True).create()


def test_a_read_only_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:  # chmod would not stop a test run by root
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BundleError, match=rf"^cannot write in {tmp_path}: Permission denied$"):
        StagedFolder(tmp_path / "b", False).create()
