"""A ttnn bundle through the command lines, on a mocked mesh: its numbers are zeros, its path is the chips'."""

import json
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from safetensors.numpy import load_file

from mochi_aot.compiler.checkpoint.presets import BENCH
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint

GEOMETRY = "64x128x13"


def run(tool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command line in a process of its own: ttnn knows one mesh a process."""
    command = [sys.executable, "-m", f"mochi_aot.tools.{tool}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ttnn")
    write_checkpoint(folder / "checkpoint", BENCH, "diffusers")
    options = ["--mesh", "2x4", "--weights-dtype", "bfloat8_b", "--geometry", GEOMETRY]
    done = run("compile", "--checkpoint", str(folder / "checkpoint"), *options, "-o", str(folder / "bundle"))
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


@pytest.mark.slow
def test_it_runs_on_a_mocked_mesh(bundle: Path, tmp_path: Path) -> None:
    latents, video = tmp_path / "latents.safetensors", tmp_path / "video.mp4"
    options = ["--device", "mock", "--steps", "2", "--seed", "1", "--save-latents", str(latents), "-o", str(video)]
    done = run("run", str(bundle), "--prompt", "a fox", *options)
    assert done.returncode == 0, done.stderr
    assert imageio_ffmpeg.count_frames_and_secs(video)[0] == 13
    assert load_file(latents)["latents"].shape == (1, 12, 3, 8, 16)
    assert np.isfinite(load_file(latents)["latents"]).all()


@pytest.mark.slow
def test_every_op_is_accepted(bundle: Path) -> None:
    done = run("verify", str(bundle), "--json")
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)["programs"]
    roles = ["encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode"]
    assert [report["role"] for report in reports] == roles
    assert all(report["accepted"] == report["ops"] > 0 for report in reports)


@pytest.mark.slow
def test_without_chips_it_says_so(bundle: Path, tmp_path: Path) -> None:
    options = ["--steps", "2", "--seed", "1", "--no-decode", "--save-latents", str(tmp_path / "latents.safetensors")]
    done = run("run", str(bundle), "--prompt", "a fox", *options)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: cannot open a mesh of 2x4 chips")
    assert not list(tmp_path.iterdir())
