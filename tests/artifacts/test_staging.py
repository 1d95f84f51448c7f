import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from mochi_aot.artifacts import Bundle, BundleError, held_folder, renaming, staging
from mochi_aot.artifacts.errors import BundleExistsError, exit_code
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
    (place,) = tmp_path.iterdir()
    assert place.name == f".b.partial-{os.getuid()}" and stat.S_IMODE(place.stat().st_mode) == 0o700
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
    folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without renameat2's flags, as NFS: for it the kernel says EINVAL."""
    monkeypatch.setattr(renaming, "_renameat2", lambda *_: False)


def test_force_where_nothing_can_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_exchange(monkeypatch)
    path = tmp_path / "b"
    write_bundle(path)
    folder = staged(path, force=True)
    folder.publish()
    folder.discard()
    assert [found.name for found in tmp_path.rglob("*")] == ["b", "content"]


def test_the_old_bundle_comes_back_if_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_exchange(monkeypatch)
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


def remains_of(path: Path) -> Path:
    """What a process that was killed has left, with a weight in it: nothing holds the lock."""
    remains = path.parent / f".{path.name}.partial-{os.getuid()}" / "killed"
    (remains / "new").mkdir(0o700, parents=True)
    remains.parent.chmod(0o700)
    (remains / "journal").write_text("a line\n")
    (remains.parent / "lock").touch()
    return remains


def test_the_remains_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    remains_of(tmp_path / "b")
    staged(tmp_path / "b").discard()
    assert list(tmp_path.iterdir()) == []


def test_to_resume_they_stay_until_the_end(tmp_path: Path) -> None:
    remains = remains_of(tmp_path / "b")
    folder = StagedFolder(tmp_path / "b", False, keep=True)
    folder.create()
    assert folder.remains == [remains]
    assert not folder.discard()  # it has finished nothing
    assert list(tmp_path.iterdir()) == [remains.parent] and list(remains.parent.iterdir()) == [remains]
    folder = StagedFolder(tmp_path / "b", False, keep=True)
    folder.create()
    folder.publish()
    assert not folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_refused_compile_leaves_the_remains(tmp_path: Path) -> None:
    """Somebody may want to resume them: the place is taken by what another one has made since."""
    remains = remains_of(tmp_path / "b")
    write_bundle(tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / "b")
    with pytest.raises(BundleExistsError):
        StagedFolder(tmp_path / "b", False).create()
    assert (remains / "journal").exists()


@pytest.mark.parametrize("force", [False, True])
def test_while_one_writes_another_is_refused(tmp_path: Path, force: bool) -> None:
    folder = staged(tmp_path / "b")
    before = sorted(tmp_path.rglob("*"))
    for keep in (False, True):
        with pytest.raises(BundleExistsError, match="b is being written by another process; wait for its end, or"):
            StagedFolder(tmp_path / "b", force, keep).create()
    assert sorted(tmp_path.rglob("*")) == before
    staged(tmp_path / "c").discard()  # nothing to do with it
    folder.publish()
    folder.discard()
    assert (tmp_path / "b/content").read_text() == "new"


@pytest.mark.parametrize("force", [False, True])
def test_a_bundle_that_a_killed_run_moved_away_comes_back(tmp_path: Path, force: bool) -> None:
    path = tmp_path / "b"
    old = write_bundle(path)
    path.rename(remains_of(path) / "old")
    if force:
        staged(path, force).discard()
    else:
        with pytest.raises(BundleExistsError, match="b exists; choose another path"):
            StagedFolder(path, False).create()
    assert Bundle.open(path).id == old
    assert not list(tmp_path.rglob("old"))


def test_without_locks_nothing_is_taken_for_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And two that write at once are told apart by the last rename."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    remains = remains_of(tmp_path / "b")
    one, other = staged(tmp_path / "b"), staged(tmp_path / "b")
    assert f"files cannot be locked in {tmp_path}: what stopped processes have left" in caplog.text
    one.publish()
    one.discard()
    with pytest.raises(BundleExistsError):
        other.publish()
    other.discard()
    assert (tmp_path / "b/content").read_text() == "new"
    assert (remains / "journal").exists() and len(list(remains.parent.iterdir())) == 1


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


OTHER = 12345


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
@pytest.mark.parametrize("way", ["its own name", "the user's"])
def test_what_others_have_planted_is_not_used(tmp_path: Path, way: str) -> None:
    """In a folder for all, as /tmp: a journal to resume from, and a bundle that was moved away, of another user."""
    tmp_path.chmod(0o1777)
    place = tmp_path / f".b.partial-{OTHER if way == 'its own name' else os.getuid()}"
    child = os.fork()
    if child == 0:
        try:
            os.chdir(tmp_path)  # the folders above are root's alone
            os.setuid(OTHER)
            planted = Path(place.name, "planted")
            (planted / "old").mkdir(parents=True)
            (planted / "new").mkdir()
            (planted / "journal").write_text("trust me\n")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    before = sorted(place.rglob("*"))
    folder = StagedFolder(tmp_path / "b", False, keep=True)
    if way == "its own name":
        folder.create()
        assert folder.remains == []
        folder.discard()
    else:
        with pytest.raises(BundleError, match=rf"{place}: it is not a folder of this user alone; remove it$"):
            folder.create()
    assert sorted(place.rglob("*")) == before and list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("where", ["the lock", "the journal", "the last sync"])
def test_a_full_disk_keeps_what_is_finished(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    remains = remains_of(tmp_path / "b")
    folder = StagedFolder(tmp_path / "b", False, keep=True)
    if where == "the lock":
        (remains.parent / "lock").unlink()
        monkeypatch.setattr(held_folder, "_lock", full)
    elif where == "the journal":
        monkeypatch.setattr(staging, "Journal", full)
    else:
        folder.create()
        monkeypatch.setattr(staging, "sync", full)
    with pytest.raises(BundleError, match=rf"^cannot write (in )?{tmp_path}.*: No space left on device$") as raised:
        folder.publish() if where == "the last sync" else folder.create()
    assert exit_code(raised.value) == 7
    folder.discard()
    assert (remains / "journal").exists() and not (tmp_path / "b").exists()
