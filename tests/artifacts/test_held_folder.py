"""Folders that one process holds: who may have them, and what becomes of those that a killed process has left."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mochi_aot.artifacts.held_folder import hold, hold_new, remove_left

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
OTHER = 12345
HOLDING = """
import sys, time
from pathlib import Path
from mochi_aot.artifacts.held_folder import hold, hold_new
held = hold_new(Path(sys.argv[1]), "new-")
(held.path / "sub").mkdir()
(held.path / "sub/file").touch()
hold(Path(sys.argv[1], "fixed"))
print(flush=True)
time.sleep(100)
"""


def test_a_held_folder_is_private_and_goes_away(tmp_path: Path) -> None:
    held = hold(tmp_path / "a")
    assert held.locked and stat.S_IMODE(held.path.stat().st_mode) == 0o700
    with pytest.raises(BlockingIOError):
        hold(tmp_path / "a")
    held.release()
    assert list(tmp_path.iterdir()) == []
    one, other = hold_new(tmp_path, "new-"), hold_new(tmp_path, "new-")
    assert one.path != other.path and stat.S_IMODE(one.path.stat().st_mode) == 0o700
    (one.path / "file").touch()
    one.remove()
    other.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_it_stays_when_it_is_released(tmp_path: Path) -> None:
    held = hold(tmp_path / "a")
    (held.path / "file").touch()
    held.release()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    hold(tmp_path / "a").remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_and_nothing_else_is_removed(tmp_path: Path) -> None:
    (tmp_path / "new-mine").write_text("a file")
    (tmp_path / "new-link").symlink_to(tmp_path)
    (tmp_path / "new-folder").mkdir()
    (tmp_path / "new-folder/file").touch()  # no lock in it: nobody's of ours
    mine = sorted(tmp_path.rglob("*"))
    child = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    before = sorted(tmp_path.rglob("*"))
    remove_left(tmp_path, "new-")
    with pytest.raises(BlockingIOError):
        hold(tmp_path / "fixed")
    assert sorted(tmp_path.rglob("*")) == before
    child.send_signal(signal.SIGKILL)
    child.communicate()
    remove_left(tmp_path, "new-")
    hold(tmp_path / "fixed").release()
    assert sorted(tmp_path.rglob("*")) == mine


@pytest.mark.parametrize("plant", ["link", "file", "open to others", "lock is a link", "lock is a pipe"])
def test_what_is_planted_is_not_used(tmp_path: Path, plant: str) -> None:
    place, victim = tmp_path / "a", tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("kept")
    if plant == "link":
        place.symlink_to(victim)
    elif plant == "file":
        place.touch()
    else:
        place.mkdir(0o700)
        if plant == "open to others":
            place.chmod(0o770)
        elif plant == "lock is a link":
            (place / "lock").symlink_to(victim / "file")
        else:
            os.mkfifo(place / "lock")
    if plant == "lock is a pipe":
        hold(place).remove()  # it does not wait for a reader
    else:
        with pytest.raises(OSError):  # noqa: PT011  ELOOP or EPERM
            hold(place)
    remove_left(tmp_path, "a")
    assert [path.name for path in victim.iterdir()] == ["file"] and (victim / "file").read_text() == "kept"


@ROOT
def test_a_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(0o700)
    (tmp_path / "a/lock").touch()
    os.chown(tmp_path / "a", OTHER, OTHER)
    with pytest.raises(PermissionError, match="it is not a folder of this user alone; remove it"):
        hold(tmp_path / "a")
    remove_left(tmp_path, "a")
    assert (tmp_path / "a/lock").exists()
