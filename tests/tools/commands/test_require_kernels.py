"""`mochi-compile --require-kernels`: stand-ins are refused, before anything is written, and real kernels are taken.

No real compiler is at hand. The second half installs a program where SFPI's own packages would put theirs; it compiles
as little as the stand-in does, but to mochi-compile it is an SFPI, and what it builds are its kernels.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mochi_aot.artifacts import Bundle
from mochi_aot.compiler.checkpoint.presets import BENCH, TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.ttnn.mock.installation import COMPILER, ttnn_package
from mochi_aot.runtime.ttnn.mock.stand_in import expected_version, stand_in_script
from tests.forked import run_forked
from tests.runtime import toy_bundle

CONFIG = replace(BENCH, dit=replace(BENCH.dit, layers=1), text=replace(BENCH.text, num_layers=1), vae=TINY.vae)
# Where the system has its SFPI, or not, is an argument, so that it is the same on every host.
SFPI = """
from pathlib import Path
from mochi_aot.runtime.ttnn.mock import installation
installation._SYSTEM_SFPI = Path({folder!r})
"""
has_sfpi = (ttnn_package() / "runtime/sfpi" / COMPILER).is_file()
pytestmark = pytest.mark.skipif(has_sfpi, reason="this ttnn brings its own compiler along")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "mochi"
    write_checkpoint(path, CONFIG, "diffusers")
    return path


def compile_(sfpi: Path, checkpoint: Path, output: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    words = ["--checkpoint", checkpoint, "--mesh", "1x2", "--geometry", "64x64x7", "--plan", "sp1tp0", "-o", output]
    words.append("--require-kernels")
    environment = {**os.environ, "MOCHI_CACHE": str(output.parent / "cache")}
    before = SFPI.format(folder=str(sfpi))
    return run_forked("compile", *map(str, words), *options, before=before, env=environment)


def test_stand_ins_are_refused_and_nothing_is_left(checkpoint: Path, tmp_path: Path) -> None:
    """Nor is the bundle gone that --force would have replaced."""
    before = toy_bundle.write_bundle(tmp_path / "out")
    options = ["--force", "--log-format", "json", "--print-ir", str(tmp_path / "ir")]
    done = compile_(tmp_path / "none", checkpoint, tmp_path / "out", *options)
    assert (done.returncode, done.stdout) == (5, "")
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["kind"], last["exit_code"]) == ("device", 5)
    assert last["message"].startswith("this host has no kernel compiler (SFPI), and kernels of the stand-in")
    assert "tracing" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "out"}
    assert list((tmp_path / "cache/temporary").iterdir()) == []
    assert Bundle.open(tmp_path / "out").id == before


def test_kernels_that_nobody_would_find_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """They would make another bundle of the same checkpoint: the root's path is in it."""
    words = ["--checkpoint", checkpoint, "--mesh", "1x2", "--geometry", "64x64x7", "-o", tmp_path / "out"]
    command = [
        "bash",
        "-c",
        'ulimit -n 900; exec "$@"',
        "bash",
        sys.executable,
        "-m",
        "mochi_aot.tools.commands.compile",
    ]
    environment = {**os.environ, "MOCHI_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 5
    assert "kernels built here would be found by nobody: file number 1000" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_real_kernels_are_taken(checkpoint: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "sfpi" / COMPILER
    compiler.parent.mkdir(parents=True)
    compiler.write_text(stand_in_script(expected_version(ttnn_package())))
    compiler.chmod(0o755)
    done = compile_(tmp_path / "sfpi", checkpoint, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    kernels = Bundle.open(tmp_path / "out").manifest.kernels
    assert kernels is not None and not kernels.stand_in and kernels.count > 0
    line = f"kernels: {kernels.count}, by the real compiler: chips with the same ttnn find them built"
    assert done.stdout.splitlines()[-1] == line


def test_the_target_torch_has_none(checkpoint: Path, tmp_path: Path) -> None:
    done = compile_(tmp_path / "none", checkpoint, tmp_path / "out", "--target", "torch")
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []
    assert done.stderr.splitlines()[-1] == "Error: require-kernels is for target ttnn; torch needs no kernels"
