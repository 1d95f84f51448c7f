"""The machines that are mocked, and the files that describe them."""

from collections import Counter

import pytest

from mochi_aot.runtime.ttnn.mock.cluster import Cluster, cluster_descriptor, mesh_graph
from mochi_aot.runtime.ttnn.mock.errors import MockMeshError
from mochi_aot.runtime.ttnn.mock.machines import galaxy, grid, loudbox, machine_for

TWO_CHIPS = """\
arch:
  0: wormhole_b0
  1: wormhole_b0
chip_unique_ids:
  0: 1000
  1: 1001
ethernet_connections:
  - [{chip: 0, chan: 8}, {chip: 1, chan: 4}]
  - [{chip: 0, chan: 9}, {chip: 1, chan: 5}]
  - [{chip: 0, chan: 10}, {chip: 1, chan: 6}]
  - [{chip: 0, chan: 11}, {chip: 1, chan: 7}]
chips_with_mmio:
  - 0: 0
  - 1: 1
harvesting:
  0: {noc_translation: true, harvest_mask: 1, dram_harvesting_mask: 0, eth_harvesting_mask: 0, pcie_harvesting_mask: 0}
  1: {noc_translation: true, harvest_mask: 1, dram_harvesting_mask: 0, eth_harvesting_mask: 0, pcie_harvesting_mask: 0}
chip_to_boardtype:
  0: n150
  1: n150
boards:
  - [{board_id: 1649267441665}, {board_type: n150}, {chips: [0]}]
  - [{board_id: 1649267441666}, {board_type: n150}, {chips: [1]}]
"""
TWO_CHIP_MESH = """\
mesh_descriptors { name: "M0" arch: WORMHOLE_B0 device_topology { dims: [1, 2] } host_topology { dims: [1, 1] } \
channels { count: 4 policy: RELAXED } }
top_level_instance { mesh { mesh_descriptor: "M0" mesh_id: 0 } }
"""


def neighbours(machine: Cluster) -> Counter[tuple[int, int]]:
    """Links between each two linked chips, the lower chip first."""
    return Counter((min(a, b), max(a, b)) for (a, _), (b, _) in machine.links)


def test_the_files_of_a_mesh_small_enough_to_read() -> None:
    assert cluster_descriptor(grid(1, 2)) == TWO_CHIPS
    assert mesh_graph(grid(1, 2)) == TWO_CHIP_MESH


def test_what_only_some_machines_say() -> None:
    box, rack = cluster_descriptor(loudbox()), cluster_descriptor(galaxy())
    assert "chips:\n  0: [0, 0, 0, 0]\n" in box and "  7: [3, 1, 0, 0]\n" in box
    assert "chips_with_mmio:\n  - 0: 0\n  - 1: 1\n  - 2: 2\n  - 3: 3\nharvesting" in box
    assert "  - [{board_id: 1374389534721}, {board_type: n300}, {chips: [0, 4]}]\n" in box
    assert "chip_to_bus_id:\n  0: 0xc1\n  1: 0x81\n  2: 0x1\n  3: 0x41\n  4: 0xc2\n" in rack
    assert "chip_to_bus_id" not in box and "\nchips:" not in rack


@pytest.mark.parametrize("machine", [loudbox(), galaxy(), grid(8, 8)], ids=lambda machine: machine.name)
def test_a_machine_is_wired_as_a_mesh(machine: Cluster) -> None:
    rows, columns = machine.rows, machine.columns
    ports = [port for link in machine.links for port in link]
    assert len(set(ports)) == len(ports) and all(0 <= channel < 16 for _, channel in ports)
    linked = neighbours(machine)
    assert set(linked.values()) == {machine.links_per_neighbour}
    assert len(linked) == rows * (columns - 1) + columns * (rows - 1)
    # Corners have two neighbours, edges three, the rest four.
    degrees = Counter(Counter(chip for pair in linked for chip in pair).values())
    corners, inner = 4, (rows - 2) * (columns - 2)
    assert degrees == +Counter({2: corners, 4: inner, 3: rows * columns - corners - inner})


def test_the_plain_grid_numbers_chips_row_by_row() -> None:
    assert neighbours(grid(2, 3)) == Counter(dict.fromkeys([(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)], 4))


def test_the_galaxy_is_cabled_as_the_real_one() -> None:
    """Links in a tray, and between neighbouring trays, as the driver has recorded them on one."""
    links = galaxy().links
    for link in (((0, 8), (4, 4)), ((0, 12), (16, 0)), ((12, 8), (13, 8)), ((30, 11), (31, 11)), ((29, 15), (31, 15))):
        assert link in links


@pytest.mark.parametrize(
    "mesh, machine",
    [
        *(((1, n), "loudbox") for n in (1, 2, 3, 4, 8)),
        *((mesh, "loudbox") for mesh in ((2, 2), (2, 4), (4, 2), (8, 1))),
        *((mesh, "galaxy") for mesh in ((1, 9), (1, 32), (2, 8), (3, 3), (4, 4), (4, 8), (8, 4), (32, 1))),
        ((8, 8), "grid-8x8"),
        ((16, 2), "grid-16x2"),
        ((5, 5), "grid-5x6"),
        ((7, 5), "grid-7x6"),
    ],
)
def test_the_smallest_machine_that_holds_the_mesh(mesh: tuple[int, int], machine: str) -> None:
    assert machine_for(mesh).name == machine


@pytest.mark.parametrize(
    "mesh, words",
    [((0, 4), "a mesh has 1 to 64 chips"), ((-1, -2), "1 to 64"), ((5, 13), "1 to 64"), ((7, 9), "it takes 7x10")],
)
def test_meshes_that_cannot_be_mocked(mesh: tuple[int, int], words: str) -> None:
    with pytest.raises(MockMeshError, match=f"cannot mock a {mesh[0]}x{mesh[1]} mesh: .*{words}"):
        machine_for(mesh)
