"""mochi-bringup on a mocked mesh: it ends in a report, whatever becomes of a step."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mochi_aot.tools.bringup.steps import STEPS
from mochi_aot.tools.commands.bringup import NAMES
from tests.runtime import toy_bundle
from tests.tools.commands.test_checking_values import written


def bringup(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mochi_aot.tools.commands.bringup", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def steps_of(path: Path) -> dict[str, Any]:
    return {step["name"]: step for step in json.loads(path.read_text())["steps"]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One program, x + w, then + 1, on 1x2."""
    return written(tmp_path_factory.mktemp("bringup"), "add", 1, value=1.0)


def test_the_steps_of_the_command_are_those_that_there_are() -> None:
    assert tuple(STEPS) == NAMES


def test_a_mocked_mesh_ends_in_a_report(bundle: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = bringup(str(bundle), "--device", "mock", "-o", str(report))
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {report}"
    steps = steps_of(report)
    assert list(steps) == list(NAMES) and {step["state"] for step in steps.values()} == {"passed"}
    opened = steps["mesh"]["numbers"]
    assert (opened["arch"], opened["shape"], opened["grid"]) == ("wormhole_b0", [1, 2], [8, 8])
    loaded = steps["load"]["numbers"]["programs"]["denoise"]
    (weight,) = (bundle / "weights").glob("*.tensorbin")
    assert loaded["file_bytes"] == weight.stat().st_size
    # A chip holds 1 x 12 x 2 tiles of 2048 bytes, spread over 12 banks.
    assert loaded["dram_bytes"] == 24 * 2048
    (compared,) = steps["values"]["numbers"]["programs"]
    assert [one["instruction"] for one in compared["departures"]] == [1]  # 0 + 1 is 0 on a mocked mesh
    by_op = steps["programs"]["numbers"]["programs"]["32x64x7 denoise"]["by_op"]
    assert by_op["add"]["calls"] == 2 and by_op["add"]["seconds"] > 0
    # What the model takes for the host's start of an op, twice: these tensors take no time.
    assert by_op["add"]["modelled_seconds"] == pytest.approx(80e-6)
    block = steps["block"]["numbers"]["programs"]["32x64x7 denoise"]
    assert block == {"skipped": "it does not attend"}
    assert "built without its device profiler" in steps["profile"]["numbers"]["skipped"]
    assert "nothing can be recorded on the device mock" in steps["trace"]["numbers"]["skipped"]


def test_a_step_that_fails_does_not_stop_the_others(bundle: Path, tmp_path: Path) -> None:
    """A weight's file that ttnn cannot read: the step that loads it ends with an error, or crashes."""
    broken, report = tmp_path / "b", tmp_path / "report.json"
    shutil.copytree(bundle, broken)
    (weight,) = (broken / "weights").glob("*.tensorbin")
    weight.write_bytes(b"\xff" * weight.stat().st_size)
    steps = ["--step", "load", "--step", "mesh"]
    done = bringup(str(broken), "--device", "mock", "-o", str(report), *steps)
    assert done.returncode == 5
    found = steps_of(report)
    assert (found["load"]["state"], found["mesh"]["state"]) == ("failed", "passed")
    assert weight.name in found["load"]["in_flight"] and found["load"]["problem"] in done.stdout


def test_a_step_that_hangs_is_named(bundle: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = bringup(str(bundle), "--device", "mock", "-o", str(report), "--step", "mesh", "--limit", "0.3")
    assert done.returncode == 5
    (step,) = steps_of(report).values()
    assert (step["state"], step["problem"]) == ("hung", "not done after 0.3 s")


def test_what_is_refused(bundle: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    assert bringup(str(bundle), "--device", "mock", "-o", str(report)).returncode == 4
    toy_bundle.write_bundle(tmp_path / "torch")
    done = bringup(str(tmp_path / "torch"))
    assert done.returncode == 5
    assert done.stderr == f"error: {tmp_path}/torch: compiled for torch; a bring-up is of bundles for ttnn\n"
