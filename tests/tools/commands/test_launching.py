"""`mochi-run --launch`: real processes, one a device, and what becomes of them when one fails or is asked to stop."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.tools.commands.launching import launch_ranks
from tests.forked import Started, run_forked, start_forked
from tests.runtime import toy_bundle

LIMIT = 30.0  # seconds within which a run ends once a rank is gone
LONG = ("--steps", "600")  # of some milliseconds each


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("launch") / "toy"
    toy_bundle.write_bundle(path, (1, 2))
    return path


def children(pid: int) -> list[int]:
    """Processes that a process has started, the ranks in order."""
    return [int(name) for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def denoising(bundle: Path, tmp_path: Path) -> Iterator[tuple[Started, list[int]]]:
    """A run that denoises, and its ranks' processes; all of them must have ended at the end."""
    output = str(tmp_path / "fox.mp4")
    started = start_forked(tmp_path, "run", str(bundle), "--launch", "--prompt", "a fox", "-o", output, *LONG)
    until(lambda: "denoise" in started.stderr() or not started.process.is_alive())
    ranks = children(started.process.pid)
    assert len(ranks) == 2, started.stderr()
    yield started, ranks
    assert not started.process.is_alive()
    assert [pid for pid in ranks if Path(f"/proc/{pid}").exists()] == []
    assert [path for path in tmp_path.iterdir() if path.suffix == ".mp4"] == []


def end(started: Started) -> tuple[int, str]:
    """The exit code and the errors of a run that has to end soon."""
    started.process.join(LIMIT)
    if started.process.is_alive():
        started.process.kill()
        pytest.fail(f"still running: {started.stderr()}")
    return started.process.exitcode, started.stderr().partition("denoise\n")[2]


def test_the_video_is_that_of_the_simulation(bundle: Path, tmp_path: Path) -> None:
    """With a delta too, of whose factors each rank makes what it holds."""
    toy_bundle.write_brighter(tmp_path / "delta", bundle, -2.0)
    videos = []
    for delta in ((), ("--delta", str(tmp_path / "delta"))):
        for launch in ((), ("--launch",)):
            output = tmp_path / f"{len(videos)}.mp4"
            arguments = ("--prompt", "a fox", "--seed", "5", "--steps", "3", "-o", str(output), *delta, *launch)
            done = run_forked("run", str(bundle), *arguments)
            assert done.returncode == 0 and done.stdout.count("\n") == 1, done.stderr
            videos.append(output.read_bytes())
    assert videos[0] == videos[1] != videos[2] == videos[3]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_run(rank: int, denoising: tuple[Started, list[int]]) -> None:
    started, ranks = denoising
    os.kill(ranks[rank], signal.SIGKILL)
    code, errors = end(started)
    assert code == 7
    assert f"rank {rank} was ended by SIGKILL" in errors
    if rank == 1:
        assert "error: rank 1 has ended, or was ended, without a word" in errors


@pytest.mark.parametrize(
    ("number", "whom"),
    [
        pytest.param(signal.SIGINT, slice(None), id="all of them, as a terminal does"),
        pytest.param(signal.SIGTERM, slice(0, 1), id="the one that was started"),
        pytest.param(signal.SIGTERM, slice(2, 3), id="rank 1"),
    ],
)
def test_a_signal_ends_all(number: int, whom: slice, denoising: tuple[Started, list[int]]) -> None:
    started, ranks = denoising
    for pid in [started.process.pid, *ranks][whom]:
        os.kill(pid, number)
    code, errors = end(started)
    assert code == 128 + number
    # Rank 0 says how many jobs are done, unless the signal comes to it just before its first step.
    assert errors in ("interrupted\n", "interrupted: 0 of 1 jobs done, no file left unfinished\n")


def test_a_rank_whose_weights_are_damaged_says_so(bundle: Path, tmp_path: Path) -> None:
    """Of rank 1's shards alone: rank 0 does not read them."""
    damaged = tmp_path / "damaged"
    toy_bundle.write_bundle(damaged, (1, 2), own_shards=True)
    manifest = Bundle.open(damaged).manifest
    weight = next(weight for weight in manifest.weights if weight.name == "w_dit")
    first, second = (manifest.shards[index] for index in weight.shards)
    assert first.offset != second.offset
    with (damaged / manifest.files[second.file].path).open("r+b") as file:
        file.seek(second.offset)
        file.write(b"\1\2\3\4")
    output = str(tmp_path / "fox.mp4")
    done = run_forked("run", str(damaged), "--launch", "--prompt", "a fox", "--steps", "2", "-o", output)
    assert done.returncode == 3
    assert "error: rank 1: weight 'w_dit'" in done.stderr and "do not match their hash" in done.stderr
    assert not Path(output).exists()


def test_launch_is_for_processes_that_nobody_has_started(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(click.UsageError, match="torchrun has started already; leave out one"):
        launch_ranks(bundle)


def test_launch_is_for_the_target_torch(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b", (1, 2), "ttnn")
    with pytest.raises(click.UsageError, match="one process drives all chips for ttnn"):
        launch_ranks(tmp_path / "b")


def test_one_device_is_one_process(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b")
    assert launch_ranks(tmp_path / "b") is None
