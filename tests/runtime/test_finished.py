"""A video and its record belong together at every moment, and one process at a time writes them."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mochi_aot.artifacts import renaming
from mochi_aot.runtime import finished
from mochi_aot.runtime.errors import OutputExistsError, OutputFolderError
from mochi_aot.runtime.finished import finishing, held_outputs
from mochi_aot.runtime.job import Job


def make(folder: Path, text: bytes, force: bool = False) -> None:
    with finishing(folder / "a.mp4", folder / "a.json", force) as made:
        made.video.write_bytes(text)
        made.record = {"made": text.decode()}


def check_pair(folder: Path) -> str | None:
    """What the record says, which is of this very video; None if there is no record."""
    if not (folder / "a.json").exists():
        return None
    record, video = json.loads((folder / "a.json").read_text()), (folder / "a.mp4").read_bytes()
    assert record["video"] == {"sha256": hashlib.sha256(video).hexdigest(), "bytes": len(video)}
    assert record["made"] == video.decode()
    return record["made"]


def test_both_appear(tmp_path: Path) -> None:
    make(tmp_path, b"one")
    assert check_pair(tmp_path) == "one"
    make(tmp_path, b"two", force=True)
    assert check_pair(tmp_path) == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mp4"]


@pytest.mark.parametrize("renames", [True, False])
@pytest.mark.parametrize("there", ["a.mp4", "a.json"])
def test_what_has_appeared_meanwhile_stays(
    tmp_path: Path, there: str, renames: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On file systems without a rename that replaces nothing, too."""
    if not renames:
        monkeypatch.setattr(renaming, "_renameat2", lambda *_: False)
    with (
        pytest.raises(OutputExistsError, match=f"the output {tmp_path}/{there} exists; give another name, or --force"),
        finishing(tmp_path / "a.mp4", tmp_path / "a.json", False) as made,
    ):
        made.video.write_bytes(b"new")
        (tmp_path / there).write_text("another's")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "another's"


def killed_at(step: int, folder: Path, force: bool) -> bool:
    """Make a pair in a process that ends before this step of those that change what others see, or sync it; return
    whether it came to its end."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1] == 0
    steps = itertools.count()

    def dying[**P, R](call: Callable[P, R]) -> Callable[P, R]:
        def counted(*arguments: P.args, **named: P.kwargs) -> R:
            if next(steps) == step:
                os._exit(9)
            return call(*arguments, **named)

        return counted

    try:
        for owner, name in (
            *((os, name) for name in ("replace", "link", "unlink", "rmdir")),
            *((Path, name) for name in ("unlink", "rmdir")),
            *((finished, name) for name in ("sync", "rename_new")),
        ):
            setattr(owner, name, dying(getattr(owner, name)))
        make(folder, b"new", force)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("force", [False, True])
def test_killed_at_any_step_no_record_is_of_another_video(tmp_path: Path, force: bool) -> None:
    seen = set()
    for step in range(30):
        folder = tmp_path / str(step)
        folder.mkdir()
        if force:
            make(folder, b"old")
        done = killed_at(step, folder, force)
        seen.add(check_pair(folder))
        if force:
            assert (folder / "a.mp4").read_bytes() in (b"old", b"new")
        make(folder, b"again", force=True)
        assert sorted(path.name for path in folder.iterdir()) == ["a.json", "a.mp4"]
        if done:
            break
    assert done and step > 5
    assert seen == ({"old", None, "new"} if force else {None, "new"})


def test_outputs_are_held_by_one(tmp_path: Path) -> None:
    job = Job(output=str(tmp_path / "a.mp4"), save_latents=str(tmp_path / "l.st"))
    other = Job(output=str(tmp_path / "b.mp4"), save_latents=str(tmp_path / "l.st"))
    with held_outputs(job, force=False):
        for again, name in ((Job(output=job.output), "a.json"), (other, "l.st")):
            with (
                pytest.raises(OutputExistsError, match=f"{name} is being written by another process; wait for its end"),
                held_outputs(again, force=True),
            ):
                pass
    (tmp_path / "l.st").touch()
    with pytest.raises(OutputExistsError, match=r"l\.st exists"), held_outputs(job, force=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["l.st"]


def test_a_planted_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / f".a.json.partial-{os.getuid()}").symlink_to(tmp_path)
    with (
        pytest.raises(
            OutputFolderError, match=r"a\.json\.partial-\d+: it is not a folder of this user alone; remove it"
        ),
        held_outputs(Job(output=str(tmp_path / "a.mp4")), force=True),
    ):
        pass
