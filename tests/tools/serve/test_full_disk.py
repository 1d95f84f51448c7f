"""A full disk under a running server: what it tells clients, how it ends, and that no job is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.serve.servers import ENVIRONMENT


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
def test_a_full_disk_loses_no_job(tmp_path: Path) -> None:
    command = ["unshare", "-m", sys.executable, "-m", "tests.tools.serve.full_disk", str(tmp_path)]
    told = json.loads(subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout)
    reason = "the queue's file, jobs.sqlite3, cannot be used: database or disk is full"
    assert told["refused"] == [503, "30", reason] and told["health meanwhile"] == 200
    assert told["exit code"] == 7 and told["made"] == ["completed"] * 4
    assert len(told["errors"]) == 1 and told["errors"][0].endswith(("disk is full", "No space left on device"))
