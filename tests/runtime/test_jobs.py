"""Lists of jobs: what goes on after a failure, what a rerun leaves out, and what is kept when decoding fails."""

import copy
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime import generate as generate_module
from mochi_aot.runtime import jobs as jobs_module
from mochi_aot.runtime import kept as kept_module
from mochi_aot.runtime.checks import CheckedJob, check_job
from mochi_aot.runtime.errors import (
    BackendError,
    InputFileError,
    Interrupted,
    NumbersError,
    OptionError,
    OutputError,
    VideoError,
)
from mochi_aot.runtime.job import Job
from mochi_aot.runtime.jobs import Failure, JobsOptions, Outcome, run_jobs
from mochi_aot.runtime.kept import open_denoised
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.record import make_record
from mochi_aot.runtime.sweep import parse_line
from mochi_aot.tools.commands.run import main as mochi_run
from tests.runtime import toy_bundle


class Notebook:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.log: list[str] = []

    def begin(self, number: int, jobs: int) -> None:
        self.log.append(f"{number}/{jobs}")

    def finished(self, checked: CheckedJob, device: str, seconds: float) -> None:
        self.log.append(f"finished {checked.job.output}")

    def skipped(self, job: Job) -> None:
        self.log.append(f"skipped {job.output}")

    def phase(self, name: str, steps: int) -> None:
        self.log.append(name)

    def step(self, done: int, steps: int) -> None:
        """Not written down."""

    def check(self) -> None:
        """Stops nothing."""

    def warn(self, text: str) -> None:
        self.notes.append(text)

    def failed(self, failure: Failure) -> None:
        self.log.append(f"failed {failure.message.partition(':')[0]}")


@pytest.fixture
def book() -> Notebook:
    return Notebook()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the bundle `b`, and is the current one."""
    toy_bundle.write_bundle(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(output: str, **changes: Any) -> Job:
    return Job(**{"prompt": "a fox", "steps": 2, "seed": 1, "output": output, **changes})


def run(book: Notebook, *jobs: Job, **options: Any) -> Outcome:
    labelled = [(f"line {number}: ", one) for number, one in enumerate(jobs, start=1)]
    return run_jobs(Path("b"), labelled, JobsOptions(**options), book)


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.name != "b")


KEPT = "out.latents.safetensors"


@contextmanager
def failing(phase: str, error: BaseException) -> Iterator[None]:
    """Meanwhile a phase after denoising raises."""

    def fail(*arguments: Any) -> None:
        raise copy.copy(error)  # each is another one

    with pytest.MonkeyPatch.context() as patch:
        if phase == "decode":
            patch.setattr(Pipeline, "decode", fail)
        else:
            patch.setattr(generate_module, "write_video", fail)
        yield


def stop_late(book: Notebook, one: Job, error: BaseException | None = None, phase: str = "decode") -> None:
    error = error or NumbersError("odd")
    with failing(phase, error), pytest.raises(type(error)):
        run(book, one)


@pytest.mark.parametrize("phase", ["decode", "write the video"])
@pytest.mark.parametrize(
    "error", [NumbersError("odd"), VideoError("full"), OSError(28, "No space"), KeyboardInterrupt(), Interrupted()]
)
def test_denoised_latents_are_kept_and_the_way_on_is_told(book: Notebook, phase: str, error: BaseException) -> None:
    """The command that is told makes the very video."""
    one = job("out.mp4", fps=24.0, geometry="16x16x7", seed=7)
    stop_late(book, one, error, phase)
    assert files() == [KEPT]
    command = f"mochi-run b --decode-latents {KEPT} --geometry 16x16x7 --fps 24 -o out.mp4"
    assert book.notes == [f"the denoised latents are in {KEPT}; to go on: {command}"]
    result = CliRunner().invoke(mochi_run, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"out.mp4: 16x16, 7 frames, decoded from {KEPT}, ")
    run(book, replace(one, output="whole.mp4"))
    assert Path("out.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert files() == ["out.json", KEPT, "out.mp4", "whole.json", "whole.mp4"]  # what the user names stays


KILLED_WHILE_DECODING = """
import os, signal, sys
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.tools.commands.run import main
Pipeline.decode = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_a_killed_process_leaves_the_latents(book: Notebook) -> None:
    """It can say nothing; a rerun finds them."""
    words = ["b", "--prompt", "a fox", "--steps", "2", "-o", "out.mp4"]
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_DECODING, *words], capture_output=True, check=False)
    held = f".out.json.partial-{os.getuid()}"
    assert killed.returncode == -signal.SIGKILL and files() == [held, KEPT]
    outcome = run(book, job("out.mp4", seed=None), skip_existing=True)
    assert outcome.done == 1 and "denoise" not in book.log
    assert files() == ["out.json", "out.mp4"]


def test_what_decoded_latents_were_made_of_is_recorded(book: Notebook) -> None:
    stop_late(book, job("out.mp4", seed=7))
    run(book, Job(decode_latents=KEPT, output="other.mp4"))
    record = json.loads(Path("other.json").read_text())
    assert record["arguments"]["decode-latents"] == KEPT and record["arguments"]["prompt"] is None
    made_by = record["denoised"]
    assert made_by["bundle"] == Bundle.open("b").id
    assert (made_by["arguments"]["prompt"], made_by["arguments"]["seed"]) == ("a fox", 7)
    assert list(record["seconds"]) == ["decode", "write the video", "total"]


def test_nothing_is_kept_once_the_video_is_whole(book: Notebook) -> None:
    run(book, job("a.mp4"))
    assert files() == ["a.json", "a.mp4"] and book.notes == []


def test_latents_that_are_saved_anyway_are_not_kept_twice(book: Notebook) -> None:
    stop_late(book, job("out.mp4", save_latents="l.st"))
    assert files() == ["l.st"]
    assert book.notes == ["the denoised latents are in l.st; to go on: " + "mochi-run b --decode-latents l.st "
                          "--geometry 16x32x13 -o out.mp4"]  # fmt: skip


def test_names_that_a_shell_would_change(book: Notebook) -> None:
    stop_late(book, job("a fox's.mp4"))
    (note,) = book.notes
    words = shlex.split(note.partition("to go on: ")[2])
    assert words[3] == "a fox's.latents.safetensors" and words[-1] == "a fox's.mp4"


def test_a_stop_before_the_last_step_leaves_nothing(book: Notebook) -> None:
    def stop(done: int, steps: int) -> None:
        raise Interrupted

    book.step = stop  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        run(book, job("out.mp4"))
    assert files() == [] and book.notes == []


def test_latents_that_cannot_be_kept_do_not_end_the_job(book: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_module, "save_latents_file", full)
    run(book, job("out.mp4"))
    assert files() == ["out.json", "out.mp4"]
    assert book.notes == [f"the denoised latents cannot be kept in {KEPT}: No space left on device"]


def test_kept_latents_are_not_replaced_by_accident(book: Notebook) -> None:
    stop_late(book, job("out.mp4", seed=7))
    before = Path(KEPT).read_bytes()
    with pytest.raises(OutputError, match=r"line 1: out.latents.safetensors has denoised latents that a stopped run"):
        run(book, job("out.mp4", seed=8))
    assert Path(KEPT).read_bytes() == before
    run(book, job("out.mp4", seed=8), force=True)
    assert files() == ["out.json", "out.mp4"]


@pytest.mark.parametrize("seed", [7, None])
def test_a_rerun_with_skip_existing_decodes_what_was_kept(book: Notebook, seed: int | None) -> None:
    """Also where the seed was a random one: it is in the file."""
    one = job("out.mp4", seed=seed)
    stop_late(book, one)
    first = load_file(KEPT)["latents"]
    book.log.clear()
    run(book, one, skip_existing=True)
    assert book.log == ["open the device", "1/1", "decode", "write the video", "finished out.mp4"]
    assert files() == ["out.json", "out.mp4"]
    arguments_ = json.loads(Path("out.json").read_text())["arguments"]
    assert (arguments_["prompt"], arguments_["steps"]) == ("a fox", 2)
    again = parse_line(json.dumps(arguments_), Job())
    run(book, replace(again, output="again.mp4", save_latents="l.st"))
    np.testing.assert_array_equal(load_file("l.st")["latents"], first)
    assert Path("again.mp4").read_bytes() == Path("out.mp4").read_bytes()


@pytest.mark.parametrize("changes", [{"seed": 8}, {"steps": 3}, {"prompt": "a owl"}, {"guidance_scale": 5.0}])
def test_latents_of_other_options_are_not_taken(book: Notebook, changes: dict[str, Any]) -> None:
    stop_late(book, job("out.mp4", seed=7))
    with pytest.raises(OutputError, match="has denoised latents that a stopped run kept"):
        run(book, job("out.mp4", **{"seed": 7, **changes}), skip_existing=True)
    assert files() == [KEPT]


def test_latents_of_another_bundle_are_not_taken(book: Notebook) -> None:
    stop_late(book, job("out.mp4"))
    Path("b").rename("c")
    toy_bundle.write_bundle(Path("b"), mesh=(1, 2))
    with pytest.raises(OutputError, match="has denoised latents"):
        run(book, job("out.mp4"), skip_existing=True)


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_a_damaged_file_of_kept_latents(book: Notebook, content: bytes) -> None:
    Path(KEPT).write_bytes(content)
    with pytest.raises(OutputError, match="has denoised latents"):
        run(book, job("out.mp4"), skip_existing=True)
    with pytest.raises(InputFileError, match="is not a safetensors file"):
        run(book, Job(decode_latents=KEPT, output="out.mp4"))


def test_files_to_decode_that_cannot_be(book: Notebook) -> None:
    save_file({"noise": np.zeros((1, 12), np.float32)}, "a.st")
    save_file({"latents": np.zeros((1, 12), np.float32)}, "b.st")
    save_file({"latents": np.zeros((1, 12, 2, 2, 2), np.float32)}, "c.st")
    for file, geometry, message in [
        ("a.st", None, "a.st has no tensor 'latents'; it has noise"),
        ("b.st", None, r"b.st: latents has shape \[1, 12\], the bundle wants \[1, 12, 3, 2, 4\] for 16x32x13"),
        ("c.st", "16x32x13", r"c.st: latents has shape \[1, 12, 2, 2, 2\], the bundle wants \[1, 12, 3, 2, 4\] for"),
    ]:
        with pytest.raises(InputFileError, match=f"line 1: {message}"):
            run(book, Job(decode_latents=file, output="out.mp4", geometry=geometry))
    run(book, Job(decode_latents="c.st", output="out.mp4"))  # the shape tells the geometry
    assert json.loads(Path("out.json").read_text())["arguments"]["geometry"] == "16x16x7"
    assert json.loads(Path("out.json").read_text())["denoised"] == {}  # nobody knows what made it


def test_a_list_ends_at_the_first_failure(book: Notebook) -> None:
    save_file({"latents": np.full((1, 12, 3, 2, 4), np.nan, np.float32)}, "bad.st")
    jobs = [job("a.mp4"), job("c.mp4", seed=None, latents="bad.st"), job("d.mp4")]
    with pytest.raises(InputFileError, match=r"^line 2: bad.st: latents has values that are not finite$"):
        run(book, *jobs)
    assert files() == ["a.json", "a.mp4", "bad.st"]


def test_keep_going(book: Notebook) -> None:
    """After failures of each kind: found before anything runs, and while it runs."""
    save_file({"latents": np.full((1, 12, 3, 2, 4), np.nan, np.float32)}, "bad.st")
    jobs = [job("a.mp4", seed=None, latents="bad.st"), job("b.mp4", steps=0), job("c.mp4"), job("none/d.mp4")]
    outcome = run(book, *jobs, keep_going=True)
    assert files() == ["bad.st", "c.json", "c.mp4"]
    assert (outcome.done, outcome.skipped) == (1, 0)
    assert [(failure.message, type(failure.error)) for failure in outcome.failed] == [
        ("line 2: steps is 0, expected 1 or more", OptionError),
        ("line 4: the output folder none does not exist; create it first", OutputError),
        ("line 1: bad.st: latents has values that are not finite", InputFileError),
    ]
    assert book.log[:4] == ["failed line 2", "failed line 4", "open the device", "1/2"]
    assert book.log.index("failed line 1") < book.log.index("finished c.mp4")


def test_keep_going_after_a_full_disk(book: Notebook) -> None:
    with failing("write the video", OSError(28, "No space left on device")):
        outcome = run(book, job("a.mp4"), job("b.mp4"), keep_going=True)
    assert [failure.message for failure in outcome.failed] == [
        "line 1: a.mp4: No space left on device",
        "line 2: b.mp4: No space left on device",
    ]


def test_keep_going_does_not_hide_what_ends_all(book: Notebook) -> None:
    with failing("decode", Interrupted()), pytest.raises(Interrupted):
        run(book, job("a.mp4"), job("b.mp4"), keep_going=True)
    with pytest.raises(BundleError, match="none does not exist"):
        run_jobs(Path("none"), [("", job("a.mp4"))], JobsOptions(keep_going=True), book)


def test_skip_existing_does_what_is_missing(book: Notebook) -> None:
    jobs = [job("a.mp4"), job("b.mp4", save_latents="b.st"), job("c.mp4")]
    run(book, *jobs[:2])
    before = Path("a.mp4").stat().st_mtime_ns
    book.log.clear()
    outcome = run(book, *jobs, skip_existing=True)
    assert (outcome.done, outcome.skipped) == (1, 2)
    assert book.log[:4] == ["skipped a.mp4", "skipped b.mp4", "open the device", "1/1"]
    assert Path("a.mp4").stat().st_mtime_ns == before and "c.mp4" in files()


@pytest.mark.parametrize("gone", ["a.mp4", "a.json", "a.st"])
def test_a_result_without_one_of_its_files_is_not_there(book: Notebook, gone: str) -> None:
    """It is not replaced without being asked to."""
    one = job("a.mp4", save_latents="a.st")
    run(book, one)
    Path(gone).unlink()
    with pytest.raises(OutputError, match="exists; give another name, or --force"):
        run(book, one, skip_existing=True)
    outcome = run(book, one, skip_existing=True, force=True)
    assert (outcome.done, outcome.skipped) == (1, 0) and gone in files()


def test_nothing_is_opened_where_all_is_there(book: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    run(book, job("a.mp4"))
    monkeypatch.setattr(jobs_module, "open_backend", lambda *_: pytest.fail("opened"))
    assert run(book, job("a.mp4"), skip_existing=True).skipped == 1


def test_the_backend_is_closed_and_reading_ends(book: Notebook) -> None:
    closed: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs_module, "close_backend", closed.append)
        run(book, job("a.mp4"))
        stop_late(book, job("out.mp4"))
        assert len(closed) == 2
        patch.setattr(jobs_module, "open_backend", lambda *_: (_ for _ in ()).throw(BackendError("none here")))
        with pytest.raises(BackendError, match="none here"):
            run(book, job("b.mp4"), keep_going=True)
    assert len(closed) == 2
    assert "weights" not in {thread.name for thread in threading.enumerate()}


def test_a_video_of_a_mock_mesh_says_so(book: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """test_ttnn_bundle.py has one; here the device has no more than the name."""
    checked = check_job(job("a.mp4"), Bundle.open("b"))
    for device, mock in (("cpu", False), ("chips", False), ("mock", True)):
        record = make_record(checked.job, {}, Bundle.open("b"), device, {})
        assert (record["device"], record["mock"]) == (device, mock)


def test_arguments_of_a_kept_job_are_json(book: Notebook) -> None:
    stop_late(book, job("out.mp4", steps=None, guidance_scale=(6.0, 5.0)))
    assert open_denoised(Path(KEPT)).made_by["arguments"]["guidance-scale"] == [6.0, 5.0]
    book.log.clear()
    run(book, job("out.mp4", steps=None, guidance_scale=(6.0, 5.0)), skip_existing=True)
    assert "denoise" not in book.log
