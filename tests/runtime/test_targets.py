"""The choice of a backend and a device by a bundle's target."""

import subprocess
import sys
from pathlib import Path

import pytest

from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.targets import DEVICES, choose_device

# A process of its own: it can open one mesh, and does not get rid of ttnn again.
ON_A_MOCK_MESH = """
import sys, tempfile
from types import SimpleNamespace
import numpy as np
from mochi_aot.artifacts.schema import Placement, TensorSpec
from mochi_aot.runtime.targets import open_backend
tempfile.tempdir = sys.argv[1]
backend = open_backend(SimpleNamespace(target="ttnn", mesh=[1, 2]), "mock")
spec = TensorSpec("bfloat16", [64, 64], [64, 32], [None, Placement(1, 32)], "tile")
value = backend.upload(np.ones((64, 64), np.float32), spec)
print(backend.fetch(value, spec).shape)
"""
WITHOUT_TTNN = """
import sys
from types import SimpleNamespace
sys.modules["ttnn"] = None  # as if it were not installed
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.targets import open_backend
try:
    open_backend(SimpleNamespace(target="ttnn", mesh=[1, 2]))
except BackendError as error:
    print(error)
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("target", "device", "chosen"),
    [("torch", None, "cpu"), ("torch", "cuda", "cuda"), ("ttnn", None, "chips"), ("ttnn", "mock", "mock")],
)
def test_each_target_has_a_default(target: str, device: str | None, chosen: str) -> None:
    assert choose_device(target, device) == chosen
    assert chosen in DEVICES[target]


def test_devices_of_another_target() -> None:
    with pytest.raises(BackendError, match=r"^device 'mock': expected cpu or cuda, on which bundles for torch run$"):
        choose_device("torch", "mock")
    with pytest.raises(BackendError, match=r"^device 'cuda': expected chips or mock, on which bundles for ttnn run$"):
        choose_device("ttnn", "cuda")


def test_a_target_of_another_version() -> None:
    with pytest.raises(BackendError, match="compiled for target 'abacus'; this version runs torch and ttnn"):
        choose_device("abacus", None)


def test_a_mock_mesh_is_opened_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run(ON_A_MOCK_MESH, str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "(64, 64)\n", "")
    assert list(tmp_path.iterdir()) == []


def test_without_ttnn() -> None:
    done = run(WITHOUT_TTNN)
    assert done.stdout == "the bundle's target is ttnn, which is not installed: pip install mochi-aot\n"
