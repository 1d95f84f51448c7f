"""mochi-compile after one that was stopped, or for another geometry: what is used again, and what it must equal."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from mochi_aot.artifacts import Bundle
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.tools.compile import main
from mochi_aot.tools.compiling import Terminal

pytestmark = pytest.mark.slow  # each compile takes seconds

SIZE, OTHER = "16x16x7", "32x16x7"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("again") / "mochi"
    write_checkpoint(path, TINY, "diffusers")
    return path


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """What one compile makes that nothing disturbs."""
    return compiled(checkpoint, tmp_path_factory.mktemp("whole") / "out")


def words(checkpoint: Path, output: Path, *options: object) -> list[str]:
    options = ("--geometry", SIZE, *options)
    return [*map(str, ("--checkpoint", checkpoint, "--mesh", "1x2", "--target", "torch", "-o", output, *options))]


def run(checkpoint: Path, output: Path, *options: object) -> Result:
    return CliRunner().invoke(main, words(checkpoint, output, *options))


def compiled(checkpoint: Path, output: Path, *options: object) -> Bundle:
    result = run(checkpoint, output, *options)
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(output)
    bundle.verify()
    return bundle


def made_before(result: Result) -> str:
    """How much of the weights the report says was made before."""
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("weights: "))
    return line.split(" on disk, ")[1].removesuffix(" of it made before")


# A compile in which the process ends by a signal when half of the weights are written; small shards are not kept in
# memory for long, as those of a full-size model are not.
STOPPED = """
import os, sys
from mochi_aot.artifacts import weight_file
from mochi_aot.tools.compile import main
from mochi_aot.tools.compiling import Terminal
def stop(self, done, total):
    if 2 * done > total:
        os.kill(os.getpid(), int(sys.argv.pop()) if len(sys.argv) > 1 else 0)
        __import__("time").sleep(30)
weight_file.BUFFER_BYTES = 1 << 16
number = sys.argv.pop(1)
arguments = sys.argv[1:]
sys.argv = ["x", number]
Terminal.weights = stop
main(arguments)
"""


def stopped(checkpoint: Path, output: Path, number: int, *options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", STOPPED, str(int(number)), *words(checkpoint, output, *options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_killed_and_resumed_it_is_the_same_bundle(checkpoint: Path, whole: Bundle, tmp_path: Path) -> None:
    assert stopped(checkpoint, tmp_path / "out", signal.SIGKILL).returncode == -signal.SIGKILL
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == [".out.partial"]
    result = run(checkpoint, tmp_path / "out", "--resume")
    assert result.exit_code == 0, result.output
    assert made_before(result) != "0 B"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    bundle = Bundle.open(tmp_path / "out")
    bundle.verify()
    assert bundle.id == whole.id


def test_killed_again_and_again(checkpoint: Path, whole: Bundle, tmp_path: Path) -> None:
    for _ in range(2):
        assert stopped(checkpoint, tmp_path / "out", signal.SIGKILL, "--resume").returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert compiled(checkpoint, tmp_path / "out", "--resume").id == whole.id
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_resume_the_remains_go(checkpoint: Path, whole: Bundle, tmp_path: Path) -> None:
    stopped(checkpoint, tmp_path / "out", signal.SIGKILL)
    result = run(checkpoint, tmp_path / "out")
    assert made_before(result) == "0 B"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert Bundle.open(tmp_path / "out").id == whole.id


def damage_weights(remains: Path) -> None:
    """As a power failure might: the journal has reached the disk and the weights have not."""
    for path in (remains / "weights").iterdir():
        path.write_bytes(bytes(path.stat().st_size))


def cut_weights(remains: Path) -> None:
    for path in (remains / "weights").iterdir():
        os.truncate(path, 5000)


def cut_journal(remains: Path) -> None:
    os.truncate(remains / "journal", (remains / "journal").stat().st_size // 2 + 7)


def spoil_journal(remains: Path) -> None:
    line = (remains / "journal").read_text().splitlines()[0].replace("weights/", "../../weights/")
    (remains / "journal").write_text(f"[]\n7\n{line}\n\n{{}}\n")


@pytest.mark.parametrize("damage", [damage_weights, cut_weights, cut_journal, spoil_journal])
def test_damaged_remains_are_not_used(
    checkpoint: Path, whole: Bundle, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    stopped(checkpoint, tmp_path / "out", signal.SIGKILL)
    (remains,) = tmp_path.iterdir()
    damage(remains)
    assert compiled(checkpoint, tmp_path / "out", "--resume").id == whole.id


@pytest.mark.parametrize("change", ["numbers", "time"])
def test_a_checkpoint_that_changed_is_read_again(checkpoint: Path, tmp_path: Path, change: str) -> None:
    """Numbers that are sampled, or numbers that are not, but the file's time tells."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    stopped(copy, tmp_path / "out", signal.SIGKILL)
    for path in copy.rglob("*.safetensors"):
        tensors = load_file(path)
        for tensor in tensors.values():
            if change == "numbers":
                tensor.add_(1)
            elif tensor.nbytes > 4 * 4096 + 64:
                tensor.reshape(-1)[4096 // tensor.itemsize + 3] += 1
        time.sleep(0.01)
        save_file(tensors, path, metadata={"format": "pt"})
    result = run(copy, tmp_path / "out", "--resume")
    assert result.exit_code == 0, result.output
    fresh = compiled(copy, tmp_path / "fresh")
    assert Bundle.open(tmp_path / "out").id == fresh.id


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_leaves_nothing_or_what_resume_wants(
    checkpoint: Path, whole: Bundle, tmp_path: Path, number: int, code: int
) -> None:
    done = stopped(checkpoint, tmp_path / "out", number)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []
    done = stopped(checkpoint, tmp_path / "out", number, "--resume")
    assert done.returncode == code and "--resume uses it" in done.stderr
    assert len(list(tmp_path.iterdir())) == 1
    assert compiled(checkpoint, tmp_path / "out", "--resume").id == whole.id
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


FULL = """
import resource, signal, sys
from mochi_aot.tools.compile import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
main(sys.argv[1:])
"""


def test_a_full_disk_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    """A limit on a file's size stands in for it; the thread that writes meets it."""
    command = [sys.executable, "-c", FULL, *words(checkpoint, tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: cannot write {tmp_path}/out: File too large"
    assert done.stderr.count("error") == 1
    assert list(tmp_path.iterdir()) == []


def inodes(bundle: Bundle) -> set[int]:
    return {path.stat().st_ino for path in (bundle.path / "weights").iterdir()}


def test_another_geometry_shares_the_weights(checkpoint: Path, whole: Bundle, tmp_path: Path) -> None:
    """All files of weights but that of constants, and the bundle is what it would have been anyway."""
    before = {path: path.stat().st_mtime_ns for path in (whole.path / "weights").iterdir()}
    fresh = compiled(checkpoint, tmp_path / "fresh", "--geometry", OTHER)
    other = compiled(checkpoint, tmp_path / "other", "--geometry", OTHER, "--reuse", whole.path)
    assert other.id == fresh.id != whole.id
    assert len(inodes(other) & inodes(whole)) == len(inodes(other)) - 1 > 0
    assert before == {path: path.stat().st_mtime_ns for path in (whole.path / "weights").iterdir()}
    whole.verify()


def test_the_bundle_that_is_replaced_can_be_reused(checkpoint: Path, whole: Bundle, tmp_path: Path) -> None:
    first = compiled(checkpoint, tmp_path / "out")
    kept = inodes(first)
    again = compiled(checkpoint, tmp_path / "out", "--force", "--reuse", tmp_path / "out")
    assert again.id == whole.id
    assert inodes(again) == kept  # constants, too: the geometry is the same
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_mesh_or_dtype_shares_nothing(checkpoint: Path, whole: Bundle, tmp_path: Path) -> None:
    for options in (["--mesh", "2x1"], ["--dtype", "float32"]):
        other = compiled(checkpoint, tmp_path / "other", *options, "--reuse", whole.path, "--force")
        assert not inodes(other) & inodes(whole)


def test_a_fine_tune_shares_the_text_encoder(checkpoint: Path, whole: Bundle, tmp_path: Path) -> None:
    """Its weights lie at the start of a file that has others after them: they are copied, not made."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    (path,) = (copy / "transformer").glob("*.safetensors")
    tensors = {key: tensor + torch.ones((), dtype=tensor.dtype) for key, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    result = run(copy, tmp_path / "out", "--reuse", whole.path)
    assert result.exit_code == 0, result.output
    assert made_before(result) != "0 B"
    fresh = compiled(copy, tmp_path / "fresh")
    assert Bundle.open(tmp_path / "out").id == fresh.id
    whole.verify()


def test_what_cannot_be_reused_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, tmp_path / "out", "--reuse", tmp_path / "none")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/none does not exist; expected the folder of")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_weight_is_found_before_anything_is_written(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    (path,) = (copy / "vae").glob("*.safetensors")
    tensors = load_file(path)
    del tensors["decoder.conv_in.bias"]
    save_file(tensors, path, metadata={"format": "pt"})
    result = run(copy, tmp_path / "out")
    assert result.exit_code == 1 and "missing: vae: decoder.conv_in.bias" in result.stderr
    assert list(tmp_path.iterdir()) == [copy]


def test_a_checkpoint_cut_while_it_is_read(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that reads meets it; the others stop."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    (path,) = (copy / "transformer").glob("*.safetensors")
    phase = Terminal.phase

    def cut(self: Terminal, text: str) -> None:
        phase(self, text)
        if text == "writing weights":
            os.truncate(path, path.stat().st_size // 2)

    monkeypatch.setattr(Terminal, "phase", cut)
    result = run(copy, tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"error: {path} became shorter while it was read: copy it again"
    assert list(tmp_path.iterdir()) == [copy]
