"""Calls that fail in commands, in short: run.py has the campaign over all of them."""

import errno
import shutil
from pathlib import Path

import pytest

from tests.faults.run import Fault, prepare, problems

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
