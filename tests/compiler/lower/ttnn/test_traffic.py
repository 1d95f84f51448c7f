"""Bytes that lowered instructions send: by hand, and against the partitioned program they come from."""

from dataclasses import dataclass, replace

import pytest

from mochi_aot.artifacts.schema import ProgramStats
from mochi_aot.compiler.checkpoint.presets import BENCH
from mochi_aot.compiler.compile import Compiled, compile_program
from mochi_aot.compiler.from_config import SeededSource
from mochi_aot.compiler.ir.ops import COLLECTIVES
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.program import lower
from mochi_aot.compiler.lower.ttnn.traffic import held_bytes, is_collective, sent_bytes
from mochi_aot.compiler.partition.cost import bytes_sent
from mochi_aot.compiler.partition.plans import transformer_plan
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.geometry import Geometry

MESH = (2, 4)
RING = "transformer.ring_joint_scaled_dot_product_attention"
SWAP = "experimental.all_to_all_async_generic"
PAD = "experimental.neighbor_pad_async"


@dataclass
class Held:
    shape: tuple[int, ...]
    dtype: str = "bfloat16"
    layout: str = "tile"


@pytest.mark.parametrize(
    ("tensor", "size"),
    [
        (Held((2, 32, 64)), 2 * 32 * 64 * 2),
        (Held((3, 5, 48)), 3 * 32 * 64 * 2),
        (Held((40,), "float32"), 32 * 64 * 4),
        (Held((33, 32), "bfloat8_b"), 2 * 1088),
        (Held((3, 5, 48), layout="row_major"), 3 * 5 * 48 * 2),
    ],
)
def test_what_a_chip_holds(tensor: Held, size: int) -> None:
    assert held_bytes(tensor) == size


WHOLE = 64 * 256 * 2  # bytes of bfloat16 [64, 256]


@pytest.mark.parametrize(
    ("op", "attrs", "tensor", "sent"),
    [
        # along a row of four: its own piece and two that it passes on
        ("all_gather", {"axis": 1, "dim": 0}, Held((64, 256)), 3 * WHOLE),
        ("all_gather", {"axis": 0, "dim": 0}, Held((64, 256)), WHOLE),
        ("reduce_scatter", {"axis": 1, "dim": 1}, Held((64, 256)), WHOLE * 3 // 4),
        ("all_reduce", {"axis": 1}, Held((64, 256)), 2 * WHOLE * 3 // 4),
        ("all_reduce", {"axis": 0}, Held((64, 256)), WHOLE),
        # 1 x 3 tiles do not divide by four: all is gathered, and each chip adds up
        ("all_reduce", {"axis": 1}, Held((32, 96)), 3 * 32 * 96 * 2),
        # a quarter for each other chip: each of 4 has 3, over (3 * 1 + 2 * 2 + 1 * 3) / 6 links in the mean
        (SWAP, {"axis": 1, "in_dim": 0, "out_dim": 1}, Held((64, 256)), 3 * (WHOLE // 4) * 10 // 6),
        (SWAP, {"axis": 0, "in_dim": 0, "out_dim": 1}, Held((64, 256)), WHOLE // 2),
        ("mesh_partition", {"axis": 1, "dim": 0}, Held((64, 256)), 0),
        ("matmul", {}, Held((64, 256)), 0),
        # three borders between four chips, each crossed by two frames of 6 x 8 pixels, one way
        (
            PAD,
            {"dim": [1], "padding_left": [2], "padding_right": [0], "axis": [1]},
            Held((1, 5, 6, 8, 32), layout="row_major"),
            3 * (2 * 6 * 8 * 32 * 2) // 4,
        ),
        # one border of a row of pixels both ways; three of a column, as long as the rows that came make it
        (
            PAD,
            {"dim": [2, 3], "padding_left": [1, 1], "padding_right": [1, 1], "axis": [0, 1]},
            Held((1, 5, 6, 8, 32), layout="row_major"),
            (5 * 8 * 2) * 64 // 2 + 3 * (5 * (6 + 2) * 2) * 64 // 4,
        ),
    ],
)
def test_bytes_by_hand(op: str, attrs: dict[str, object], tensor: Held, sent: int) -> None:
    assert sent_bytes(op, attrs, [tensor], MESH) == sent
    assert is_collective(op) == (sent > 0)


def test_a_ring_sends_keys_and_values_of_both_streams() -> None:
    visual, text = Held((1, 3, 64, 32)), Held((1, 3, 32, 32))
    operands = [visual, visual, visual, text, text, text, Held((1,), "uint32", "row_major")]
    assert sent_bytes(RING, {"axis": 1}, operands, MESH) == 3 * 2 * (3 * 64 * 32 + 3 * 32 * 32) * 2


CONFIG = replace(BENCH, dit=replace(BENCH.dit, layers=2), text=replace(BENCH.text, num_layers=1))


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    geometry = Geometry(64, 64, 43)  # 8 latent frames of 8 x 8: 128 tokens, a tile a chip
    program = build_programs(CONFIG, geometry, "bfloat16", SeededSource(CONFIG))["denoise"]
    return compile_program(program, MESH, transformer_plan(1, 32))


def stats_of(compiled: Compiled, links_dtype: str) -> ProgramStats:
    lowerer = Lowerer(compiled.program, MESH, "bfloat16", links_dtype)
    return lower(lowerer, "sp1tp0", compiled.cost).program.stats


def by_opcode(compiled: Compiled) -> dict[str, int]:
    sums: dict[str, int] = {}
    for op in compiled.program.ops:
        if op.opcode in COLLECTIVES - {"shard"}:
            sums[op.opcode] = sums.get(op.opcode, 0) + bytes_sent(op, MESH)
    return sums


def text_of_rings() -> int:
    """ttnn passes a whole text's keys and values on from each of 4 chips, for a ring a layer and prompt: 256 tokens, 6
    of 12 heads of 64 in bfloat16."""
    return 2 * CONFIG.dit.layers * 3 * 2 * (256 * 6 * 64 * 2)


def test_a_small_model_sends_what_its_partitioned_program_says(compiled: Compiled) -> None:
    """But for the last gather, of 48 velocities a token, which tiles pad to 64, and the text that rings gather."""
    sums, stats = by_opcode(compiled), stats_of(compiled, "bfloat16")
    sums["ring_joint_attention"] += text_of_rings()
    assert set(sums) == {"all_reduce", "ring_joint_attention", "all_gather"}
    assert sums["all_gather"] == 3 * 2 * 32 * 48 * 2
    assert stats.collective_bytes == sum(sums.values()) + 3 * 2 * 32 * 16 * 2
    # A ring a layer and prompt; two sums a layer for each stream but the last text's.
    rings = 2 * CONFIG.dit.layers
    assert stats.collectives == {
        RING.rpartition(".")[2]: rings,
        "all_reduce": 4 * CONFIG.dit.layers - 2,
        "all_gather": 1,
    }


def test_in_bfloat8_b_rings_and_the_second_half_of_sums_send_17_bytes_for_32(compiled: Compiled) -> None:
    """A tile is 1088 bytes instead of 2048. The first half of a sum, and velocities, are sent as before."""
    sums, wide = by_opcode(compiled), stats_of(compiled, "bfloat16").collective_bytes
    saved = (sums["ring_joint_attention"] + text_of_rings() + sums["all_reduce"] // 2) * 15 // 32
    stats = stats_of(compiled, "bfloat8_b")
    assert stats.collective_bytes == wide - saved
    count = 4 * CONFIG.dit.layers - 2
    rings = stats.collectives.pop(RING.rpartition(".")[2])
    assert rings == 2 * CONFIG.dit.layers
    assert stats.collectives == {"reduce_scatter": count, "all_gather": count + 1}
