"""mochi-compile after one that was stopped, or for another geometry: what is used again, and what it must equal."""

import os
import shutil
import signal
import subprocess
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
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.tools.commands.compile import main
from mochi_aot.tools.commands.compiling import Terminal
from tests.forked import run_forked

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
import os, time
from mochi_aot.artifacts import weight_file
from mochi_aot.tools.commands.compiling import Terminal
numbers = [{number:d}]
def stop(self, done, total):
    if 2 * done > total:
        os.kill(os.getpid(), numbers.pop() if numbers else 0)
        time.sleep(30)
weight_file.BUFFER_BYTES = 1 << 16
Terminal.weights = stop
"""


def stopped(checkpoint: Path, output: Path, number: int, *options: object) -> "subprocess.CompletedProcess[str]":
    return run_forked("compile", *words(checkpoint, output, *options), before=STOPPED.format(number=number))


def attempts(folder: Path) -> list[Path]:
    """What killed compiles have left."""
    return sorted(path.parent for path in folder.glob(".out.partial-*/*/journal"))


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
    assert len(attempts(tmp_path)) == 2
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
    for path in (remains / "new/weights").iterdir():
        path.write_bytes(bytes(path.stat().st_size))


def cut_weights(remains: Path) -> None:
    for path in (remains / "new/weights").iterdir():
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
    (remains,) = attempts(tmp_path)
    damage(remains)
    result = run(checkpoint, tmp_path / "out", "--resume")
    assert result.exit_code == 0 and Bundle.open(tmp_path / "out").id == whole.id
    told = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    if damage is spoil_journal:
        (line,) = told
        assert line.startswith(f"warning: {remains}/journal is damaged: ")
        assert line.endswith("lines are left out, and their weights are made again")
    else:
        assert not told


def change_rows(checkpoint: Path) -> None:
    """One row of the text encoder's embedding and ten of a matrix, none of which is the first or the last."""
    for folder, key, rows in (
        ("text_encoder", "shared.weight", slice(101, 102)),
        ("transformer", "transformer_blocks.0.ff.net.0.proj.weight", slice(500, 510)),
    ):
        (path,) = (checkpoint / folder).glob("*.safetensors")
        tensors = load_file(path)
        tensors[key][rows, 20:30] += 1
        save_file(tensors, path, metadata={"format": "pt"})


def numbers(bundle: Bundle) -> dict[str, list[str]]:
    """The hashes of each weight's shards."""
    manifest = bundle.manifest
    return {weight.name: [manifest.shards[index].blake3 for index in weight.shards] for weight in manifest.weights}


@pytest.mark.parametrize("options", [[], ["--trust-times"]], ids=["read", "trusted"])
@pytest.mark.parametrize("way", ["resume", "reuse"])
def test_changed_rows_are_found(checkpoint: Path, whole: Bundle, tmp_path: Path, way: str, options: list[str]) -> None:
    """The bundle is the one that the changed checkpoint makes, and two of its weights are new."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    if way == "resume":
        stopped(copy, tmp_path / "out", signal.SIGKILL)
        options = ["--resume", *options]
    else:
        options = ["--reuse", str(whole.path), *options]
    change_rows(copy)
    result = run(copy, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert made_before(result) != "0 B"  # what was not changed
    bundle, fresh = Bundle.open(tmp_path / "out"), compiled(copy, tmp_path / "fresh")
    bundle.verify()
    assert bundle.id == fresh.id
    old, new = numbers(whole), numbers(bundle)
    changed = sorted(name for name in new if new[name] != old[name])
    assert len(changed) == 2 and changed[0].startswith("dit.blocks.0.") and changed[1].startswith("text.shared.weight")


def test_a_checkpoint_whose_times_changed_is_the_same(checkpoint: Path, whole: Bundle, tmp_path: Path) -> None:
    """What counts is what it holds."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy, copy_function=shutil.copyfile)
    again = compiled(copy, tmp_path / "out", "--reuse", whole.path)
    assert again.id == whole.id and inodes(again) == inodes(whole)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tensors of checkpoints of which rows are read."""
    seen: list[str] = []
    read_rows = TensorFile.read_rows

    def noted(self: TensorFile, key: str, start: int, stop: int) -> torch.Tensor:
        seen.append(key)
        return read_rows(self, key, start, stop)

    monkeypatch.setattr(TensorFile, "read_rows", noted)
    return seen


def test_times_are_trusted_if_the_user_says_so(
    checkpoint: Path, whole: Bundle, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then only what constants are computed from is read."""
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    time.sleep(1.1)  # until the files are settled
    reading = compiled(copy, tmp_path / "reading", "--reuse", whole.path)
    everything = set(reads)
    reads.clear()
    trusting = compiled(copy, tmp_path / "trusting", "--reuse", whole.path, "--trust-times")
    assert set(reads) < everything and len(set(reads)) < 10 < len(everything)
    assert reading.id == trusting.id == whole.id
    change_rows(copy)
    changed = compiled(copy, tmp_path / "changed", "--reuse", whole.path, "--trust-times")
    assert changed.id == compiled(copy, tmp_path / "fresh").id != whole.id


def test_times_are_trusted_when_a_compile_goes_on(
    checkpoint: Path, whole: Bundle, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the process that was killed remains what it knew of the checkpoint."""
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    time.sleep(1.1)
    stopped(copy, tmp_path / "out", signal.SIGKILL)
    assert compiled(copy, tmp_path / "out", "--resume", "--trust-times").id == whole.id
    assert reads and not [key for key in reads if "DenseReluDense" in key]  # the text encoder's, which came first


def test_trusting_times_is_about_weights_that_were_made(checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, tmp_path / "out", "--trust-times")
    assert result.exit_code == 2
    assert "trust-times is about weights that were made before: give it with reuse or resume" in result.stderr


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
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""


def test_a_full_disk_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    """A limit on a file's size stands in for it; the thread that writes meets it."""
    done = run_forked("compile", *words(checkpoint, tmp_path / "out"), before=FULL)
    assert done.returncode == 7
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
    assert result.exit_code == 3
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
    assert result.exit_code == 3 and "missing: vae: decoder.conv_in.bias" in result.stderr
    assert list(tmp_path.iterdir()) == [copy]


def cut(path: Path) -> str:
    os.truncate(path, path.stat().st_size // 2)
    return "became shorter while it was read: copy it again"


def overwrite(path: Path) -> str:
    """One number that lies in the file's last tensor."""
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x41")
    return "was changed while it was read"


def replace(path: Path) -> str:
    shutil.copyfile(path, path.with_name("new"))
    path.with_name("new").replace(path)
    return "was changed while it was read"


def remove(path: Path) -> str:
    path.unlink()
    return "has gone while it was read"


@pytest.mark.parametrize(
    ("when", "change"),
    [("tracing 16x16x7", overwrite), ("halfway", overwrite), ("all weights", overwrite)]
    + [("writing weights", change) for change in (cut, overwrite, replace, remove)],
)
def test_a_checkpoint_that_changes_while_it_is_compiled(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, change: Callable[[Path], str]
) -> None:
    """The compile ends with one line, wherever it is, and nothing appears."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    time.sleep(0.02)  # a tick of the clock that file systems take times from
    (path,) = (copy / "transformer").glob("*.safetensors")
    messages = []

    def phase(self: Terminal, text: str) -> None:
        if text == when:
            messages.append(change(path))

    def weights(self: Terminal, done: int, total: int) -> None:
        if not messages and done >= {"halfway": total // 2, "all weights": total}.get(when, total + 1):
            messages.append(change(path))

    monkeypatch.setattr(Terminal, "phase", phase)
    monkeypatch.setattr(Terminal, "weights", weights)
    result = run(copy, tmp_path / "out")
    assert result.exit_code == 3
    (message,) = messages
    loading, error = result.stderr.splitlines()
    assert loading == "loading the compiler" and error.startswith(f"error: {path} ")
    assert message in error or (change is cut and "was changed while it was read" in error)
    assert list(tmp_path.iterdir()) == [copy]
