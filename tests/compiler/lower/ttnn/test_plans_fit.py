"""Plans that are chosen fit a chip: two cases of `python -m tests.compiler.lower.ttnn.plans_fit`, and what it calls
wrong."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from mochi_aot.compiler.reference.geometry import Geometry
from tests.compiler.lower.ttnn.plans_fit import Fit

RIGHT = Fit((2, 4), Geometry(64, 64, 7), "bfloat16", "sp01", needed=90, there=100.0, too_large=1, refusals=[])


@pytest.mark.slow
def test_chosen_plans_fit() -> None:
    command = [sys.executable, "-m", "tests.compiler.lower.ttnn.plans_fit", "--count", "2", "--seed", "1"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "2 of 2 fit"


def test_what_is_wrong() -> None:
    assert RIGHT.right and str(RIGHT) == "right 2x4 64x64x7 bfloat16 sp01 0.0 of 0.0 MB 1 too large"
    assert not replace(RIGHT, needed=101).right
    refused = replace(RIGHT, refusals=["decode: no"])
    assert not refused.right and str(refused).endswith("too large decode: no")
