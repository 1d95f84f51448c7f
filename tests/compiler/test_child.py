"""Compiling in a child process: the same bundle and errors, and no process or file that outlives the parent."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.compiler.api import make_job
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.child import compile_in_child
from mochi_aot.compiler.errors import CompileProcessError
from mochi_aot.compiler.job import Inputs, Progress, Request
from mochi_aot.compiler.request import compile_request

GEOMETRY = "32x48x7"
LAST_PHASE = "writing weights"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("child") / "mochi"
    write_checkpoint(path, TINY, "diffusers")
    return path


def request(checkpoint: Path, output: Path) -> Request:
    """For the target torch, which takes less long; the process is the same for any."""
    job = make_job("1x2", GEOMETRY, "auto", "bfloat16", "torch", "bfloat16", "bfloat16")
    return Request(Inputs(str(checkpoint)), job, output, False, False, None, False, True, None, None, None)


class Told(Progress):
    """What was told; `at_last` is called when weights begin to be written."""

    def __init__(self, at_last: Callable[[], object] = lambda: None) -> None:
        self.phases: list[str] = []
        self.threads: set[int] = set()
        self.weights_told: list[tuple[int, int]] = []
        self._at_last = at_last

    def phase(self, text: str) -> None:
        self.phases.append(text)
        self.threads.add(threading.get_ident())
        if text == LAST_PHASE:
            self._at_last()

    def weights(self, done: int, total: int) -> None:
        self.weights_told.append((done, total))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list["subprocess.Popen[bytes]"]:
    """The processes that are started."""
    started = []
    popen = subprocess.Popen

    def start(*words: object, **options: object) -> "subprocess.Popen[bytes]":
        started.append(popen(*words, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


@pytest.mark.slow
def test_it_is_the_same_compile(checkpoint: Path, tmp_path: Path) -> None:
    """Told in this thread, in the same words; the summary but for times and memory."""
    here, there = Told(), Told()
    one = compile_request(request(checkpoint, tmp_path / "here"), here)
    other = compile_in_child(request(checkpoint, tmp_path / "there"), there)
    assert Bundle.open(tmp_path / "there").id == other.bundle_id == one.bundle_id
    assert other.programs == one.programs and other.weight_bytes_per_device == one.weight_bytes_per_device
    assert (there.phases, there.weights_told) == (here.phases, here.weights_told)
    assert here.weights_told and there.threads == {threading.get_ident()}


def test_an_error_is_the_same_error(tmp_path: Path) -> None:
    """With the child's traceback, which is not in its message."""
    said = []
    for fulfil in (compile_request, compile_in_child):
        with pytest.raises(CheckpointError) as caught:
            fulfil(request(tmp_path / "none", tmp_path / "out"), Progress())
        said.append(str(caught.value))
    assert said[0] == said[1] and said[0].startswith(f"{tmp_path}/none is not a folder: ")
    (note,) = caught.value.__notes__
    assert note.startswith("In the process that compiled:\nTraceback") and "open_checkpoint" in note
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("stop", [ZeroDivisionError, KeyboardInterrupt])
def test_what_stops_the_parent_stops_the_child(
    checkpoint: Path, tmp_path: Path, stop: type[BaseException], children: list["subprocess.Popen[bytes]"]
) -> None:
    """Raised by the caller's progress, or by Ctrl-C. The child cleans up, and has ended when the parent goes on."""

    def at_last() -> None:
        if stop is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        raise stop

    with pytest.raises(stop):
        compile_in_child(request(checkpoint, tmp_path / "out"), Told(at_last))
    (child,) = children
    assert child.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_child_that_is_killed_is_one_line(
    checkpoint: Path, tmp_path: Path, children: list["subprocess.Popen[bytes]"]
) -> None:
    told = Told(lambda: children[0].kill())
    with pytest.raises(CompileProcessError, match=r"^the process that compiled was ended by SIGKILL, perhaps[^\n]*$"):
        compile_in_child(request(checkpoint, tmp_path / "out"), told)
    assert CompileProcessError.exit_code == 7


def test_a_python_that_is_none_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(CompileProcessError, match=r"^no process can be started \(.*none\): No such file or directory$"):
        compile_in_child(request(tmp_path, tmp_path / "out"), Progress())


def test_what_it_logs_is_logged_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a module in the place of the compiler's: the child finds modules where this process does."""
    package = tmp_path / "mochi_aot_stand_in.py"
    package.write_text(
        "import logging, sys, types\n"
        "def compile_request(request, progress):\n"
        "    logging.getLogger('mochi_aot').info('%d of %s', 1, 'two')\n"
        "    logging.getLogger('mochi_aot').debug('too much')\n"
        "    print('to stderr')\n"
        "    raise LookupError(lambda: 'what pickle does not take')\n"
        "sys.modules['mochi_aot.compiler.request'] = sys.modules[__name__]\n"
    )
    monkeypatch.setattr("mochi_aot.compiler.child._START", _WITH_STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        caplog.at_level(logging.INFO, logger="mochi_aot"),
        pytest.raises(RuntimeError, match=r"^LookupError: <function"),
    ):
        compile_in_child(request(tmp_path, tmp_path / "out"), Progress())
    assert [record.getMessage() for record in caplog.records] == ["1 of two"]


_WITH_STAND_IN = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
import mochi_aot_stand_in
from mochi_aot.compiler.child import main
main()
"""
KILLED_PARENT = """
import os, signal, subprocess, sys
from pathlib import Path
from mochi_aot.compiler.child import compile_in_child
from tests.compiler.test_child import Told, request

popen = subprocess.Popen
def start(*words, **options):
    child = popen(*words, **options)
    print(child.pid, flush=True)
    return child
subprocess.Popen = start
told = Told(lambda: os.kill(os.getpid(), signal.SIGKILL))
compile_in_child(request(Path(sys.argv[1]), Path(sys.argv[2])), told)
"""


@pytest.mark.slow
def test_a_child_ends_with_a_parent_that_is_killed(checkpoint: Path, tmp_path: Path) -> None:
    """And leaves nothing, as if it had been told to stop."""
    words = [sys.executable, "-c", KILLED_PARENT, str(checkpoint), str(tmp_path / "out")]
    parent = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    child = int(parent.stdout)
    while _runs(child):  # until the test's own limit
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


def _runs(process: int) -> bool:
    """Whether a process is there that does something: one that has ended may stay in the table, as a zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
