"""Calls that fail in commands, in short: run.py has the campaign over all of them."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mochi_aot.tools.serve.store import JobStore
from tests.faults.run import Fault, library, prepare, problems

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the library that lets calls fail is C")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults")
    prepare(path, checkpoint=False)
    return path


@pytest.mark.parametrize(
    ("name", "fault", "code", "reason"),
    [
        ("inspect", Fault("open", errno.ESTALE, 1), 7, "bundle/manifest.msgpack: Stale file handle"),
        ("verify", Fault("read", errno.EIO, 3), 7, "Input/output error"),
        ("sbom", Fault("fsync", errno.EIO, 1), 7, "cannot write out: Input/output error"),
        ("run", Fault("mmap", errno.ENODEV, 1), 7, ".bin: No such device"),
        ("pack", Fault("fsync", errno.ESTALE, 1), 7, "cannot write out: Stale file handle"),
        ("unpack", Fault("rename", errno.EIO, 1), 7, "out: Input/output error"),
        ("push", Fault("write", errno.EDQUOT, 1), 7, "Disk quota exceeded"),
        ("pull", Fault("write", errno.ENOSPC, 2), 7, "No space left on device"),
        ("pull", Fault("flock", errno.ENOLCK, 1), 0, ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_call_that_fails_is_one_line(folder: Path, name: str, fault: Fault, code: int, reason: str) -> None:
    """And the output is absent, and comes with the next run."""
    done, hit, found = problems(folder, name, fault)
    assert (found, done.returncode, hit) == ([], code, True)
    assert reason in done.stderr


QUEUE = """
import sys
from pathlib import Path
from mochi_aot.tools.serve.errors import StoreError
from mochi_aot.tools.serve.keys import Caller
from mochi_aot.tools.serve.store import JobStore
store, ann = JobStore(Path(sys.argv[1]), 10), Caller("ann")
add = lambda: store.add(ann, "m", {}, 30.0, 0, retry_after=1)
add()
job = store.take("m")
store.put_back(job)
print("taken and put back")
try:
    add()
except StoreError as error:
    print(error, store.waiting())
"""


def test_a_job_is_accepted_once_it_is_on_the_disk(tmp_path: Path) -> None:
    """SQLite waits for the disk at the first write of its log and after the first job, and then for each job alone."""
    JobStore(tmp_path / "state", 10).close()
    variables = {"FAULT_CALL": "fsync", "FAULT_ERRNO": str(errno.EIO), "FAULT_NTH": "3", "LD_PRELOAD": str(library())}
    variables |= {"FAULT_PREFIX": str(tmp_path / "state/jobs.sqlite3-wal"), "FAULT_LOG": str(tmp_path / "hit")}
    reason = "the queue's file, jobs.sqlite3, cannot be used: disk I/O error"
    command = [sys.executable, "-c", QUEUE, str(tmp_path / "state")]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert done.stdout == f"taken and put back\n{reason} 1\n"
