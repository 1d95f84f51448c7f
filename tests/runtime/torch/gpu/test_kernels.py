"""The kernels for GPUs, in Triton's interpreter; and what becomes of a host on which they cannot be built."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mochi_aot.runtime.torch.gpu import kernels
from mochi_aot.runtime.torch.gpu.fusion import FUSED
from mochi_aot.runtime.torch.kernels import KERNELS

pytest.importorskip("triton")
# Sums of a few hundred numbers in float32, and one rounding to 8 bits, which the interpreter does toward zero.
TOLERANCE = {"float32": 2e-6, "bfloat16": 2.0**-7}


@pytest.mark.parametrize("where", ["interpreter", "gpu"])
def test_each_form_of_an_op_against_its_definition(where: str) -> None:
    if where == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    command = [sys.executable, "-m", "tests.runtime.torch.gpu.interpreted"]
    environment = os.environ | {"TRITON_INTERPRET": str(int(where == "interpreter")), "PYTHONPATH": ":".join(sys.path)}
    root = Path(__file__).parents[4]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for dtype, tolerance in TOLERANCE.items():
        assert len(found[dtype]) == 29
        assert {name: off for name, off in found[dtype].items() if not off <= tolerance} == {}


def test_a_host_that_cannot_build_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path))
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)

    def fail() -> None:
        assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton")
        raise RuntimeError("Failed to find C compiler. Set CC.\nand more")

    monkeypatch.setattr(kernels, "fused_kernels", fail)
    kernels.gpu_kernels.cache_clear()
    message = r"^norms and rotary embeddings run unfused, which is slower: Failed to find C compiler. Set CC\.$"
    with pytest.warns(UserWarning, match=message):
        assert kernels.gpu_kernels() is KERNELS
    kernels.gpu_kernels.cache_clear()
    monkeypatch.delenv("TRITON_CACHE_DIR")


def test_the_table_has_the_same_ops_and_the_fused_ones() -> None:
    assert kernels.fused_kernels().keys() == {*KERNELS, *FUSED}
