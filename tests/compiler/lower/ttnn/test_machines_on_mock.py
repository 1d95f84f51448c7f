"""The table of machines against what ttnn tells of its mocks: cores, links to a neighbour, and a chip's DRAM."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mochi_aot.artifacts.machines import BLACKHOLE, MACHINES, WORMHOLE
from mochi_aot.compiler.lower.ttnn.chip_constants import machine_of

# Opens a mock mesh and prints what ttnn says of it.
LOOK = """
import json, sys
from pathlib import Path
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock
rows, columns, arch, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
enter_mock(prepare_mock((rows, columns), folder, arch=arch))
import ttnn
from mochi_aot.runtime.ttnn.mesh import close_mesh, open_mesh
mesh = open_mesh(rows, columns, mesh_settings((rows, columns), arch=arch))
grid, view = mesh.compute_with_storage_grid_size(), ttnn.get_memory_view(mesh, ttnn.BufferType.DRAM)
links = [ttnn.get_num_links(mesh, axis) for axis, chips in enumerate((rows, columns)) if chips > 1]
dram = view.num_banks, view.num_banks * view.total_bytes_per_bank
print("seen:", json.dumps([[grid.x, grid.y], sorted(set(links)), *dram]))
close_mesh(mesh)
"""
GRIDS = [
    ("wormhole grid", WORMHOLE, (2, 3)),
    ("blackhole grid", BLACKHOLE, (2, 3)),
]
CASES = [*((name, chips.arch, chips.mesh) for name, chips in MACHINES.items()), *GRIDS]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arch", "mesh"), CASES, ids=[case[0] for case in CASES])
def test_a_machine_has_what_the_table_says(name: str, arch: str, mesh: tuple[int, int], tmp_path: Path) -> None:
    machine = machine_of(mesh, arch)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *map(str, mesh), arch, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("seen: "))
    links = [machine.links] if mesh != (1, 1) else []
    assert json.loads(line.removeprefix("seen: ")) == [
        list(machine.grid),
        links,
        machine.dram_banks,
        machine.dram_bytes,
    ], done.stderr
