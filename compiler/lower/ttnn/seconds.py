"""A model of the seconds that lowered instructions take on a Wormhole chip. Nothing here is measured.

An instruction costs its start and the longer of what its cores, its DRAM or its links need: the constants are those of
chip_constants.py. Ops follow one another; only ring attention computes while its keys and values travel.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.schema import Instruction
from mochi_aot.artifacts.tiles import TILE_SIZE, tiled_shape
from mochi_aot.compiler.lower.ttnn import chip_constants as chip
from mochi_aot.compiler.lower.ttnn.ring_chunks import ring_seconds
from mochi_aot.compiler.lower.ttnn.traffic import Held, held_bytes, is_collective, sent_bytes


class ModelError(MochiError):
    """An instruction that the model of seconds does not know."""


class Kind(StrEnum):
    """What instructions are summed up by."""

    ATTENTION = "attention"
    PRODUCT = "matrix products"
    CONVOLUTION = "convolutions"
    COLLECTIVE = "sums, gathers, borders"
    ELEMENTWISE = "norms and elementwise"
    MOVE = "heads, rotation, slices, joins"
    ROWS = "rows and layouts"
    LOOKUP = "lookups"


@dataclass(frozen=True)
class Call:
    """One instruction with the tensors that a chip holds of its operands and results."""

    op: str
    attrs: dict[str, Any]
    operands: Sequence[Held]
    results: Sequence[Held]
    mesh: tuple[int, int]
    machine: chip.Machine


Price = Callable[[Call], float]


def instruction_seconds(call: Call, traced: bool) -> float:
    """Return the seconds of one instruction. Raise ModelError for an op that is not in the table.

    `traced`: the chips repeat a recorded program. Otherwise no op takes less than the host needs to start it.
    """
    busy = chip.TRACED.value + _price(call)(call)
    if is_collective(call.op):
        busy += chip.COLLECTIVE.value
    return busy if traced else max(busy, chip.UNTRACED.value)


def kind_of(call: Call) -> Kind:
    """Return what the call is summed up under. Raise ModelError for an op that is not in the table."""
    if call.op not in PRICES:
        raise ModelError(f"the model of seconds has no cost for the op {call.op}: add it to {__name__}")
    kind, _ = PRICES[call.op]
    return Kind.ROWS if kind is Kind.MOVE and _row_major(call) else kind


def calls_of(
    instructions: Iterable[Instruction], tensors: Sequence[Held], mesh: tuple[int, int], machine: chip.Machine
) -> list[Call]:
    """Return the instructions with their tensors, which `tensors` has by the numbers of values."""
    return [
        Call(i.op, i.attrs, [tensors[v] for v in i.operands], [tensors[v] for v in i.results], mesh, machine)
        for i in instructions
    ]


def seconds_by_kind(calls: Iterable[Call], traced: bool) -> dict[Kind, float]:
    """Return the seconds of one run by kind. Raise ModelError for an op that is not in the table."""
    sums: dict[Kind, float] = {}
    for call in calls:
        kind = kind_of(call)
        sums[kind] = sums.get(kind, 0.0) + instruction_seconds(call, traced)
    return sums


def program_seconds(calls: Iterable[Call], traced: bool) -> float:
    """Return the seconds of one run. Raise ModelError for an op that is not in the table."""
    return sum(seconds_by_kind(calls, traced).values())


def _price(call: Call) -> Price:
    kind_of(call)
    return PRICES[call.op][1]


def _row_major(call: Call) -> bool:
    return any(tensor.layout == "row_major" for tensor in (*call.operands, *call.results))


def _core_flop(call: Call) -> float:
    """FLOP a second of a chip's cores in the call's fidelity."""
    rate = chip.CORE_FLOP.value * call.machine.clock.value * call.machine.cores
    return rate / 2 if call.attrs.get("compute") == "hifi4" else rate


def _moved(call: Call) -> float:
    """Bytes that are read and written once each."""
    return sum(map(held_bytes, (*call.operands, *call.results)))


def _at(fraction: chip.Constant) -> Price:
    """DRAM's time at a fraction of its rate."""
    return lambda call: _moved(call) / (call.machine.dram_rate.value * fraction.value)


def _product(call: Call) -> float:
    x, weight = call.operands[:2]
    *outer, rows, inputs = tiled_shape(x.shape)
    flop = 2 * prod(outer) * rows * inputs * tiled_shape(weight.shape)[-1]
    return max(flop / (_core_flop(call) * _used(inputs).value), _at(chip.DRAM_NORM)(call))


def _used(inputs: int) -> chip.Constant:
    """How much of the cores' rate a product has."""
    if inputs >= 2048:
        return chip.PRODUCT_LONG
    return chip.PRODUCT_MIDDLE if inputs >= 1024 else chip.PRODUCT_SHORT


def _convolution(call: Call) -> float:
    _, weight, *_ = call.operands  # [inputs * kernel, outputs]
    flop = 2 * prod(call.results[0].shape) * weight.shape[0]
    return max(flop / (_core_flop(call) * chip.CONVOLUTION.value), _at(chip.DRAM_NORM)(call))


def _attention(call: Call) -> float:
    """Count as a ring of one without a text of its own: all cores take chunks of queries."""
    queries, keys = call.operands[:2]
    batch, heads, tokens, width = queries.shape
    chunks = call.attrs["program_config"]
    jobs = batch * heads * -(-tokens // chunks[0])
    steps = -(-keys.shape[2] // chunks[1])
    work = chip.CHUNK_WORK.value * chunks[0] * chunks[1] * width / (256 * 256 * 128)
    return -(-jobs // call.machine.cores) * steps * (chip.CHUNK_START.value + work) / _pace(call)


def _pace(call: Call) -> float:
    """How many times as fast the cores are as those that the constants of attention are for."""
    return call.machine.clock.value / chip.CLOCK.value


def _ring(call: Call) -> float:
    """Keys and values travel while the chips compute."""
    visual, text = call.operands[0].shape, call.operands[3].shape
    queries, keys = call.attrs["program_config"]
    chips = call.mesh[call.attrs["axis"]]
    computing = ring_seconds(visual, text, chips, (queries, keys), call.machine.ring_cores) / _pace(call)
    return max(computing, _sending(call) * _wide(call, chip.GATHER_WIDE))


def _sending(call: Call, links: int | None = None) -> float:
    """Seconds for the bytes that a chip sends, the mean over all chips, on its links."""
    sent = sent_bytes(call.op, call.attrs, call.operands, call.mesh)
    return sent / (call.machine.link_rate.value * (links or call.machine.links))


def _wide(call: Call, factor: chip.Constant) -> float:
    """How much longer a collective takes than its bytes, where a neighbour has several links."""
    return factor.value if call.machine.links > 1 else 1.0


def _gather(call: Call) -> float:
    return _sending(call) * _wide(call, chip.GATHER_WIDE)


def _scatter(call: Call) -> float:
    return _sending(call) * _wide(call, chip.SCATTER_WIDE)


def _swap(call: Call) -> float:
    """Pieces go straight to their chips: the links in the middle of the line carry those of each chip on one side for
    each on the other."""
    chips = call.mesh[call.attrs["axis"]]
    crossing = (chips * chips // 4) * held_bytes(call.operands[0]) / chips
    links = crossing / (call.machine.link_rate.value * call.machine.links)
    return max(links * _wide(call, chip.GATHER_WIDE), _at(chip.DRAM_MOVE)(call))


def _sum(call: Call) -> float:
    """Half of the bytes are a reduce-scatter's, half an all-gather's."""
    return (_gather(call) + _scatter(call)) / 2


def _border(call: Call) -> float:
    """ttnn sends borders over one link, and writes the whole tensor anew."""
    return _sending(call, links=1) + _at(chip.DRAM_MOVE)(call)


def _rotation(call: Call) -> float:
    """Count the tables again for each row of the batch, which reads them again."""
    x, *tables, _ = call.operands
    again = (x.shape[0] - 1) * sum(map(held_bytes, tables))
    return (_moved(call) + again) / (call.machine.dram_rate.value * chip.DRAM_NORM.value)


def _rearrangement(call: Call) -> float:
    """Count a reshape or permute. A reshape that leaves each row, or tile, where it is moves nothing."""
    (x, result) = (call.operands[0], call.results[0])
    if call.op == "reshape" and stays(x, result):
        return 0.0
    moving = _at(chip.DRAM_MOVE)(call)
    if not _row_major(call):
        return moving
    return max(moving, chip.ROW.value * max(prod(t.shape[:-1]) for t in (x, result)))


def stays(x: Held, result: Held) -> bool:
    """Return whether a reshape leaves every number where it is."""
    if x.shape[-1:] != result.shape[-1:]:
        return False
    if x.layout == "row_major":
        return True
    heights = [(1, *t.shape)[-2] for t in (x, result)]
    return heights[0] == heights[1] or all(height % TILE_SIZE == 0 for height in heights)


def _slice(call: Call) -> float:
    """Only what is kept is read."""
    return 2 * held_bytes(call.results[0]) / (call.machine.dram_rate.value * chip.DRAM_MOVE.value)


def _lookup(call: Call) -> float:
    """Count a row for each index."""
    return 2 * held_bytes(call.results[0]) / (call.machine.dram_rate.value * chip.DRAM_BINARY.value)


_ELEMENTWISE = "add subtract multiply divide eq silu tanh sin cos rsqrt square round clamp typecast"
_NORM = "rms_norm softmax sum mean var"
_HEADS = "transformer.split_query_key_value_and_split_heads transformer.concatenate_heads"

PRICES: dict[str, tuple[Kind, Price]] = {
    "transformer.ring_joint_scaled_dot_product_attention": (Kind.ATTENTION, _ring),
    "transformer.scaled_dot_product_attention": (Kind.ATTENTION, _attention),
    "experimental.minimal_matmul": (Kind.PRODUCT, _product),
    "matmul": (Kind.PRODUCT, _product),
    "experimental.conv3d": (Kind.CONVOLUTION, _convolution),
    "all_reduce": (Kind.COLLECTIVE, _sum),
    "reduce_scatter": (Kind.COLLECTIVE, _scatter),
    "all_gather": (Kind.COLLECTIVE, _gather),
    "experimental.all_to_all_async_generic": (Kind.COLLECTIVE, _swap),
    "experimental.neighbor_pad_async": (Kind.COLLECTIVE, _border),
    "addcmul": (Kind.ELEMENTWISE, _at(chip.DRAM_ADDCMUL)),
    **{op: (Kind.ELEMENTWISE, _at(chip.DRAM_BINARY)) for op in _ELEMENTWISE.split()},
    **{op: (Kind.ELEMENTWISE, _at(chip.DRAM_NORM)) for op in _NORM.split()},
    **{op: (Kind.MOVE, _at(chip.DRAM_NORM)) for op in _HEADS.split()},
    "experimental.rotary_embedding_llama": (Kind.MOVE, _rotation),
    "slice": (Kind.MOVE, _slice),
    "mesh_partition": (Kind.MOVE, _slice),
    "concat": (Kind.MOVE, _at(chip.DRAM_MOVE)),
    "repeat": (Kind.MOVE, _at(chip.DRAM_MOVE)),
    "pad": (Kind.MOVE, _at(chip.DRAM_MOVE)),
    "to_layout": (Kind.MOVE, _at(chip.DRAM_MOVE)),
    "reshape": (Kind.MOVE, _rearrangement),
    "permute": (Kind.MOVE, _rearrangement),
    "embedding": (Kind.LOOKUP, _lookup),
}
