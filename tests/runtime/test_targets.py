"""The choice of a backend and a device by a bundle's target."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mochi_aot.runtime.defaults import DEVICES
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.targets import choose_device

# A process of its own: it can open one mesh, and does not get rid of ttnn again.
ON_A_MOCK_MESH = """
import sys
from importlib.metadata import version
from types import SimpleNamespace
import numpy as np
from mochi_aot.artifacts.schema import MeshSettings, Placement, TensorSpec
from mochi_aot.runtime.targets import open_backend
settings = MeshSettings("wormhole_b0", "1d", 32768, 0)
manifest = SimpleNamespace(target="ttnn", mesh=[1, 2], mesh_settings=settings, kernels=None, ttnn=version("ttnn"))
backend = open_backend(SimpleNamespace(path="b", manifest=manifest), "mock")
spec = TensorSpec("bfloat16", [64, 64], [64, 32], [None, Placement(1, 32)], "tile")
value = backend.upload(np.ones((64, 64), np.float32), spec)
print(backend.fetch(value, spec).shape)
"""
CHIPS = """
from types import SimpleNamespace
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.targets import open_backend
try:
    open_backend(SimpleNamespace(path="b", manifest=SimpleNamespace(target="ttnn", mesh=[1, 2], kernels=None)))
except BackendError as error:
    print(error)
"""
WITHOUT_TTNN = "import sys; sys.modules['ttnn'] = None  # as if it were not installed" + CHIPS


def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("target", "device", "chosen"),
    [
        ("torch", None, "cpu"),
        ("torch", "cuda", "cuda"),
        ("ttnn", None, "chips"),
        ("ttnn", "mock", "mock"),
        ("ttnn", "simulator", "simulator"),
    ],
)
def test_each_target_has_a_default(target: str, device: str | None, chosen: str) -> None:
    assert choose_device(target, device) == chosen
    assert chosen in DEVICES[target]


def test_devices_of_another_target() -> None:
    with pytest.raises(BackendError, match=r"^device 'mock': expected cpu or cuda, on which bundles for torch run$"):
        choose_device("torch", "mock")
    with pytest.raises(BackendError, match=r"^device 'cuda': expected chips or mock or simulator, on which bundles"):
        choose_device("ttnn", "cuda")


def test_a_target_of_another_version() -> None:
    with pytest.raises(BackendError, match="compiled for target 'abacus'; this version runs torch and ttnn"):
        choose_device("abacus", None)


def test_a_mock_mesh_is_opened_and_its_files_are_kept_in_the_users_cache(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    done = run(ON_A_MOCK_MESH, MOCHI_CACHE=str(tmp_path / "cache"), TMPDIR=str(tmp_path / "temporary"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "(64, 64)\n", "")
    assert list((tmp_path / "temporary").iterdir()) == []
    kept = {path.name for path in (tmp_path / "cache").iterdir()}
    assert {f"mock-{version('ttnn')}", "temporary"} <= kept
    assert list((tmp_path / "cache/temporary").iterdir()) == []


def test_chips_are_not_what_a_mock_mesh_is_taken_for() -> None:
    """As after a compile in this very process: the video would be black, and its record would not say why."""
    done = run(CHIPS, TT_METAL_MOCK_CLUSTER_DESC_PATH="mock.yaml")
    reason = "as a compile without a process of its own does (TT_METAL_MOCK_CLUSTER_DESC_PATH is set)"
    assert done.stdout == (
        f"this process was set up for a mock mesh, {reason}; load b in another process to run it on chips\n"
    )


def test_without_ttnn() -> None:
    done = run(WITHOUT_TTNN)
    assert done.stdout == "the bundle's target is ttnn, which is not installed: pip install mochi-aot\n"
