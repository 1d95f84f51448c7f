"""Every mesh up to 8x8 compiles a small model, and ttnn accepts all of it on a mock: what the README says of meshes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mochi_aot.artifacts.roles import ROLES
from tests.compiler.lower.ttnn.every_mesh_on_mock import CONFIG, GEOMETRY, programs_of_config

# One chip; an odd ring; heads that do not divide by either side; two odd sides; and the largest.
FEW = ("1x1", "1x3", "3x2", "3x3", "5x5", "8x8")
# Each number of rows and of columns once more, and the machines' own. All 64 take five minutes:
# python -m tests.compiler.lower.ttnn.every_mesh_on_mock DIR
OTHERS = ("1x2", "2x4", "4x8", "8x4", "6x1", "4x6", "5x3", "7x7", "6x5", "1x7")


def answers(folder: Path, meshes: list[str]) -> dict[str, dict[str, str]]:
    """What every_mesh_on_mock says of each mesh."""
    command = [sys.executable, "-m", "tests.compiler.lower.ttnn.every_mesh_on_mock", str(folder), *meshes]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    made: dict[str, dict[str, str]] = json.loads(re.findall(r"^answers: (.*)$", done.stdout, re.MULTILINE)[0])
    return made


def test_meshes_that_divide_little_run_dry(tmp_path: Path) -> None:
    assert answers(tmp_path, list(FEW)) == {mesh: {} for mesh in FEW}


@pytest.mark.slow
def test_other_meshes_run_dry(tmp_path: Path) -> None:
    assert answers(tmp_path, list(OTHERS)) == {mesh: {} for mesh in OTHERS}


def test_all_programs_are_among_those_that_run() -> None:
    made = programs_of_config(CONFIG, GEOMETRY, (3, 3), "bfloat16", with_encoder=True)
    assert set(made.programs) == set(ROLES) and not made.failures
    plans = {role: program.plan for role, program in made.programs.items()}
    assert (plans["encode_text"], plans["denoise"], plans["decode"]) == ("tpnone", "sp01", "t0")
