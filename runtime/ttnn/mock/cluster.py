"""What a driver would discover on a machine, as ttnn reads it from files: chips on boards, and their Ethernet links."""

from dataclasses import dataclass, field

from mochi_aot.artifacts.machines import BLACKHOLE

# Firmware's identifiers of board kinds, which a board's id holds from bit 36 up.
_BOARD_PREFIXES = {"n150": 0x18, "n300": 0x14, "ubb": 0x35, "p150": 0x41, "p300": 0x45, "ubb_blackhole": 0x47}

Port = tuple[int, int]  # chip, Ethernet channel (a Wormhole chip has channels 0 to 15, a Blackhole chip 0 to 11)
Link = tuple[Port, Port]

# As the driver's own descriptors of machines have them: Ethernet cores 5 and 8, and the second bus.
_BLACKHOLE_ETHERNET, _BLACKHOLE_BUS = 0b1_0010_0000, 0b10


@dataclass(frozen=True)
class Cluster:
    """A machine of chips of one architecture, numbered from 0, whose links make a mesh of `rows` x `columns`."""

    arch: str
    name: str
    rows: int
    columns: int
    links_per_neighbour: int
    board: str
    board_chips: list[list[int]]
    links: list[Link]
    # One bit for each row of cores that is fused off, of a Wormhole's ten, or column, of a Blackhole's fourteen.
    harvested: int
    # The chips on the host's bus; the others are reached through these.
    host_chips: list[int]
    unique_ids: list[int]
    # x and y of each chip; only where some chips are reached through others.
    places: list[tuple[int, int]] = field(default_factory=list)
    # Only on a Galaxy, whose chips are told apart by their place on the bus.
    bus_ids: list[int] = field(default_factory=list)
    # Only of Blackhole chips: the place of each on its board, counted from 1 on a Galaxy.
    asic_locations: list[int] = field(default_factory=list)
    # Whether the links close both axes of the mesh to rings.
    torus: bool = False


@dataclass(frozen=True)
class Sides:
    """The first Ethernet channel of each side of a chip."""

    north: int
    west: int
    east: int
    south: int


def wire(a: Port, b: Port, count: int) -> list[Link]:
    """Return `count` links between two chips, from these channels upwards."""
    return [((a[0], a[1] + i), (b[0], b[1] + i)) for i in range(count)]


def board_grid(
    arch: str, name: str, board: str, mesh: tuple[int, int], sides: Sides, links: int, harvested: int
) -> Cluster:
    """Return a grid of boards of one chip each, numbered row by row, with so many links between neighbours."""
    rows, columns = mesh
    chips = range(rows * columns)
    wires = []
    for chip in chips:
        if chip % columns + 1 < columns:
            wires += wire((chip, sides.east), (chip + 1, sides.west), links)
        if chip // columns + 1 < rows:
            wires += wire((chip, sides.south), (chip + columns, sides.north), links)
    return Cluster(
        arch=arch,
        name=f"{name}-{rows}x{columns}",
        rows=rows,
        columns=columns,
        links_per_neighbour=links,
        board=board,
        board_chips=[[chip] for chip in chips],
        links=wires,
        harvested=harvested,
        host_chips=list(chips),
        unique_ids=[1000 + chip for chip in chips],
        asic_locations=[0] * len(chips) if arch == BLACKHOLE else [],
    )


def cluster_descriptor(cluster: Cluster) -> str:
    """Return the cluster as the YAML file that ttnn's driver reads."""
    chips = range(len(cluster.unique_ids))
    sections = {
        "arch": [f"{chip}: {cluster.arch}" for chip in chips],
        "chips": [f"{chip}: [{x}, {y}, 0, 0]" for chip, (x, y) in enumerate(cluster.places)],
        "chip_unique_ids": [f"{chip}: {cluster.unique_ids[chip]}" for chip in chips],
        "ethernet_connections": [f"- [{_port(a)}, {_port(b)}]" for a, b in cluster.links] or ["[]"],
        "chips_with_mmio": [f"- {chip}: {chip}" for chip in cluster.host_chips],
        "harvesting": [f"{chip}: {_harvesting(cluster)}" for chip in chips],
        "chip_to_boardtype": [f"{chip}: {cluster.board}" for chip in chips],
        "chip_to_bus_id": [f"{chip}: 0x{bus_id:x}" for chip, bus_id in enumerate(cluster.bus_ids)],
        "boards": [_board(cluster.board, number, chips) for number, chips in enumerate(cluster.board_chips)],
        "asic_locations": [f"{chip}: {place}" for chip, place in enumerate(cluster.asic_locations)],
    }
    text = "".join(_section(name, lines) for name, lines in sections.items() if lines)
    return f"{text}io_device_type: PCIe\n" if cluster.arch == BLACKHOLE else text


def mesh_graph(cluster: Cluster) -> str:
    """Return the mesh that ttnn shall see in the cluster, as protobuf text: one mesh, on one host."""
    rings = " dim_types: [RING, RING]" if cluster.torus else ""
    return (
        f'mesh_descriptors {{ name: "M0" arch: {cluster.arch.upper()} '
        f"device_topology {{ dims: [{cluster.rows}, {cluster.columns}]{rings} }} host_topology {{ dims: [1, 1] }} "
        f"channels {{ count: {cluster.links_per_neighbour} policy: RELAXED }} }}\n"
        'top_level_instance { mesh { mesh_descriptor: "M0" mesh_id: 0 } }\n'
    )


def _harvesting(cluster: Cluster) -> str:
    """Return what of each chip is fused off: of a Blackhole chip also two of its fourteen Ethernet cores, and a bus."""
    ethernet, bus = (_BLACKHOLE_ETHERNET, _BLACKHOLE_BUS) if cluster.arch == BLACKHOLE else (0, 0)
    masks = f"dram_harvesting_mask: 0, eth_harvesting_mask: {ethernet}, pcie_harvesting_mask: {bus}"
    return f"{{noc_translation: true, harvest_mask: {cluster.harvested}, {masks}}}"


def _port(port: Port) -> str:
    return f"{{chip: {port[0]}, chan: {port[1]}}}"


def _board(kind: str, number: int, chips: list[int]) -> str:
    board_id = _BOARD_PREFIXES[kind] << 36 | number + 1
    return f"- [{{board_id: {board_id}}}, {{board_type: {kind}}}, {{chips: {chips}}}]"


def _section(name: str, lines: list[str]) -> str:
    return f"{name}:\n" + "".join(f"  {line}\n" for line in lines)
