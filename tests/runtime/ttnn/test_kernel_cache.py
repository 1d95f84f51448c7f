"""Counting kernels by what ttnn writes: a kernel's sources when it looks for it, .build_state when it builds it."""

import os
from pathlib import Path

from mochi_aot.runtime.backend import KernelUse
from mochi_aot.runtime.ttnn.kernel_cache import KernelCache


def look_for(cache: Path, name: str, build: bool, time: int) -> None:
    kernel = cache / "key/kernels" / name / "123"
    (kernel / "brisc").mkdir(parents=True, exist_ok=True)
    if build:
        (kernel / "brisc/.build_state").write_text("1")
        os.utime(kernel / "brisc/.build_state", ns=(time, time))
    os.utime(kernel, ns=(time, time))


def test_found_and_built(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        look_for(tmp_path, name, build=True, time=10)
    cache = KernelCache(tmp_path)
    assert cache.use() == KernelUse(0, 0)
    look_for(tmp_path, "a", build=False, time=20)
    look_for(tmp_path, "b", build=True, time=20)  # was there, but of another ttnn
    look_for(tmp_path, "d", build=True, time=20)
    assert cache.use() == KernelUse(1, 2)
    assert cache.use() == KernelUse(0, 0)
    look_for(tmp_path, "d", build=False, time=30)
    assert cache.use() == KernelUse(1, 0)


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "none")
    look_for(tmp_path / "none", "a", build=True, time=10)
    assert cache.use() == KernelUse(0, 1)
