"""Free memory: the machine's, and the limits of control groups, in a folder that stands for the root."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts import memory

FREE = "MemTotal: 100 kB\nMemAvailable:       90 kB\n"


def root(path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    monkeypatch.setattr(memory, "_ROOT", path)


def test_this_machine() -> None:
    assert 1 << 20 < memory.free_memory() < 1 << 50


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("", {}, 90 * 1024),
        ("0::/\n", {"sys/fs/cgroup/memory.max": "max\n"}, 90 * 1024),
        ("0::/\n", {"sys/fs/cgroup/memory.max": "5000\n"}, 5000),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "7000\n"}, 7000),
        ("3:cpu:/a\n4:memory:/a\n0::/\n", {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "6000\n"}, 6000),
        ("4:memory:/outside\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "6000\n"}, 6000),
        ("4:memory:/a:b\n", {"sys/fs/cgroup/memory/a:b/memory.limit_in_bytes": "999999999\n"}, 90 * 1024),
    ],
)
def test_the_least_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, limits: dict[str, str], expected: int
) -> None:
    root(tmp_path, monkeypatch, {"proc/meminfo": FREE, "proc/self/cgroup": groups, **limits})
    assert memory.free_memory() == expected


def test_a_system_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root(tmp_path, monkeypatch, {})
    assert memory.free_memory() == 4 << 30


def test_the_peak_is_this_process_own() -> None:
    """A child of a process that had 300 MB has not had them, which getrusage would say."""
    big = np.ones(300_000_000, np.uint8)
    code = "from mochi_aot.artifacts.memory import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 5_000_000 < child < big.nbytes <= memory.peak_memory()
