"""The scripts in examples/, each run as a user runs it, on bundles of the trained checkpoint."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from click.testing import CliRunner

from mochi_aot.tools.commands.compile import main as compile_main
from mochi_aot.tools.training.semantics import Observation
from mochi_aot.tools.training.shipped import SHAPES
from tests.semantic.firm import firmly_seen

EXAMPLES = Path(__file__).parents[1] / "examples"
GEOMETRY = "64x96x19"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of one checkpoint in float32, for one device and for two, which sum in another order under this plan."""
    folder = tmp_path_factory.mktemp("examples")
    for mesh in ("1x1", "1x2"):
        words = ["--checkpoint", SHAPES, "--mesh", mesh, "--target", "torch", "--dtype", "float32"]
        words += ["--geometry", GEOMETRY, "--plan", "sp0tp1", "-o", folder / f"{mesh}.bundle"]
        result = CliRunner().invoke(compile_main, list(map(str, words)))
        assert result.exit_code == 0, result.output
    return [folder / "1x1.bundle", folder / "1x2.bundle"]


def run(name: str, *arguments: object) -> str:
    """Return what a script says on stdout."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_make_video(bundles: list[Path], tmp_path: Path) -> None:
    said = run("make_video.py", bundles[0], tmp_path / "out.mp4", "a green square moves right across a dark background")
    assert said.startswith(f"the bundle makes {GEOMETRY}\n19 frames of 96x64, ")
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "out.mp4"))
    assert next(reader)["size"] == (96, 64)
    frames = np.stack([np.frombuffer(frame, np.uint8).reshape(64, 96, 3) for frame in reader])
    assert len(frames) == 19 and firmly_seen(frames) == Observation("green", "square", "right")
    arguments = json.loads((tmp_path / "out.json").read_text())["arguments"]
    assert (arguments["prompt"], arguments["steps"], arguments["seed"]) == (
        "a green square moves right across a dark background",
        24,
        7,
    )


@pytest.mark.slow
def test_steer_each_step(bundles: list[Path], tmp_path: Path) -> None:
    said = run("steer_each_step.py", bundles[0], tmp_path / "out.mp4").splitlines()
    assert said[0] == "step 1, time 0 of 1000, guidance 6" and said[1].endswith(", guidance 5.5")
    assert said[8:] == ["8 of 8 steps done"]
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["arguments"]["guidance-scale"] == [6.0 - step / 2 for step in range(8)]
    preview = np.load(tmp_path / "out.preview.npy")
    assert preview.shape == (64, 96, 3) and preview.dtype == np.uint8
    stopped = run("steer_each_step.py", bundles[0], tmp_path / "early.mp4", 0).splitlines()
    assert len(stopped) == 2 and stopped[1] == "1 of 8 steps done"
    assert imageio_ffmpeg.count_frames_and_secs(tmp_path / "early.mp4")[0] == 19


@pytest.mark.slow
def test_two_bundles(bundles: list[Path]) -> None:
    """Float32 in another order of summation: see test_diffusers.py."""
    words = run("two_bundles.py", *bundles).split()
    assert 0 < float(words[3]) < 1e-4 and int(words[words.index("by", 4) + 1]) <= 1
    same = run("two_bundles.py", bundles[0], bundles[0])
    assert same == "latents differ by 0.0e+00 of the largest, frames by 0 of 255 levels\n"


def test_every_script_is_run_here_and_imports_nothing_but_the_package_and_numpy() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    text = Path(__file__).read_text()
    assert len(scripts) >= 3 and all(f'run("{script.name}"' in text for script in scripts)
    for script in scripts:
        nodes = list(ast.walk(ast.parse(script.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        assert names <= {"mochi_aot", "numpy", *sys.stdlib_module_names}
