"""The real ttnn opens mock meshes and runs ops on them: each mesh in a process of its own, which has no torch."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mochi_aot.runtime.ttnn.mock import prepare_mock

# Run with the numbers of rows and columns. torch is kept from being imported.
PROBE = """
import json, sys
sys.modules["torch"] = None
import ttnn
shape = [int(text) for text in sys.argv[1:]]
ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
mesh = ttnn.open_mesh_device(ttnn.MeshShape(*shape), l1_small_size=32768)
x = ttnn.ones([1, 1, 64, 128], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh)
y = ttnn.matmul(ttnn.silu(ttnn.add(x, x)), ttnn.permute(x, (0, 1, 3, 2)))
gathered = [list(ttnn.all_gather(x, dim=3, cluster_axis=axis).shape) for axis in (0, 1) if shape[axis] > 1]
grid, dram = mesh.compute_with_storage_grid_size(), ttnn.get_memory_view(mesh, ttnn.BufferType.DRAM)
print("probe:", json.dumps({"chips": mesh.get_num_devices(), "grid": [grid.x, grid.y], "product": list(y.shape),
      "gathered": gathered, "dram": [dram.num_banks, dram.total_bytes_per_bank]}))
try:
    ttnn.matmul(x, x)
except RuntimeError as error:
    print("refused:", "width" in str(error))
ttnn.close_mesh_device(mesh)
"""


@dataclass(frozen=True)
class Probed:
    answers: dict[str, object]
    output: str


def probe(mesh: tuple[int, int], folder: Path, cwd: Path, cache: Path | None = None) -> Probed:
    environment = prepare_mock(mesh, folder, cache)
    variables = {**os.environ, **environment.variables, "TT_METAL_LOGGER_LEVEL": "info"}
    command = [sys.executable, "-c", PROBE, *map(str, mesh)]
    done = subprocess.run(command, env=variables, cwd=cwd, capture_output=True, text=True, timeout=120, close_fds=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "refused: True" in done.stdout
    return Probed(json.loads(re.findall(r"^probe: (.*)$", done.stdout, re.MULTILINE)[0]), done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One private folder for all the meshes here, which also shares the kernels."""
    return tmp_path_factory.mktemp("mock")


@pytest.mark.slow
@pytest.mark.parametrize(
    "mesh, grid",
    [
        *(((1, columns), [8, 8]) for columns in (1, 2, 4, 8)),
        ((2, 2), [8, 8]),
        ((2, 4), [8, 8]),
        ((4, 8), [8, 9]),
        ((8, 4), [8, 9]),
        ((8, 8), [8, 8]),
        ((5, 7), [8, 8]),
    ],
)
def test_a_mesh_opens_and_runs_ops(mesh: tuple[int, int], grid: list[int], folder: Path, tmp_path: Path) -> None:
    answers = probe(mesh, folder, tmp_path).answers
    assert answers == {
        "chips": mesh[0] * mesh[1],
        "grid": grid,
        "product": [1, 1, 64, 64],
        "gathered": [[1, 1, 64, 128 * chips] for chips in mesh if chips > 1],
        "dram": [12, 1072693184],
    }
    assert list(tmp_path.iterdir()) == [], "ttnn wrote into the working folder"


def cache_hits(output: str) -> tuple[int, int]:
    """Kernels found in the cache, of all kernels that were asked for."""
    hits, kernels = re.findall(r"JIT cache stats: (\d+)/(\d+) hits", output)[-1]
    return int(hits), int(kernels)


@pytest.mark.slow
def test_built_kernels_are_found_again_in_a_moved_cache(tmp_path: Path) -> None:
    hits, kernels = cache_hits(probe((1, 2), tmp_path / "mock", tmp_path, tmp_path / "cache").output)
    assert hits == 0 and kernels > 10
    (tmp_path / "cache").rename(tmp_path / "moved")
    again = probe((1, 2), tmp_path / "mock", tmp_path, tmp_path / "moved").output
    assert cache_hits(again) == (kernels, kernels)
