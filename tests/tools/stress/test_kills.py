"""Commands that are stopped at random moments, in short: the command has the long version."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mochi_aot.tools.stress.kills import Command, campaign, commands, stop
from tests.runtime import toy_bundle


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> list[Command]:
    """What is quick of what the command stops: a run, of a toy bundle."""
    bundle = tmp_path_factory.mktemp("toy") / "bundle"
    toy_bundle.write_bundle(bundle)
    return [one for one in commands(bundle, None, bundle) if one.name == "run"]


def test_nothing_is_left(running: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cache folder of their own: in that of all tests this process may have a mesh open."""
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    counts, wrong = campaign(work, running, kills=4, seed=random.randrange(1 << 32))
    assert not wrong, [one.text for one in wrong]
    assert counts.total() == 4


def test_a_campaign_finds_what_is_left(tmp_path: Path, running: list[Command], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that leaves a file, a child and another exit code."""
    child = "subprocess.Popen(['sleep', '2'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    script = f"import subprocess, sys; open('x', 'w'); {child}; sys.exit(9)"
    monkeypatch.setattr("mochi_aot.tools.stress.kills._CHILD_SECONDS", 0.2)
    monkeypatch.setattr(Command, "start", [sys.executable, "-c", script])
    faults = " ".join(stop(running[0], tmp_path, signal.SIGTERM, 20).faults)
    assert "exit code 9" in faults and "left behind: ['x']" in faults and "children are there" in faults


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="process namespaces are not to be had")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_process_1(number: signal.Signals, tmp_path: Path) -> None:
    """The kernel keeps from it every signal that it has no handler for."""
    start = [sys.executable, "-m", "mochi_aot.tools.commands.checkpoint", "out", "--preset", "bench"]
    words = ["unshare", "--pid", "--fork", "--kill-child", *start]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as outer:
        assert outer.stderr is not None
        outer.stderr.readline()
        (inner,) = children(outer.pid)
        os.kill(inner, number)
        assert outer.stderr.read().splitlines()[-1] == "interrupted"
        assert outer.wait(60) == 128 + number
    assert list(tmp_path.iterdir()) == []
