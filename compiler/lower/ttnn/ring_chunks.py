"""Ring attention's chunks: how long the op takes with them, how much of a core's memory, and the best that fit.

A core takes a chunk of queries of one head, and all keys by it, chunk by chunk. There are more such jobs than cores: in
each pass over the cores every core has one, and a last pass with few jobs takes as long as a full one.
"""

from functools import cache

from mochi_aot.artifacts.machines import BLACKHOLE, WORMHOLE
from mochi_aot.artifacts.tiles import TILE_SIZE, device_bytes
from mochi_aot.compiler.lower.ttnn.chip_constants import CHUNK_START, CHUNK_WORK, Machine

Shape = tuple[int, ...]  # [1, heads, tokens, width] of a chip
Chunks = tuple[int, int]  # tokens of queries, tokens of keys

# What ttnn 0.81.1 asks of a core, found from what it says when it refuses; the same for any number of heads and tokens.
_FIXED_BYTES = {WORMHOLE: 120_256, BLACKHOLE: 126_208}
_TILE_BYTES = 2048  # of bfloat16, in which the op keeps scores and results whatever the operands are
_STATISTICS = 9  # tiles for a row of tiles of queries
_RESULTS = 4  # copies of a chunk of results
_BUFFERED = 2  # copies of chunks of operands: one is read while the other arrives
# A core's memory, less 32,768 for the meshes' small buffers and less than 4,096 for semaphores.
CORE_BYTES = {WORMHOLE: 1_499_136 - 32_768 - 4_096, BLACKHOLE: 1_572_864 - 32_768 - 4_096}

_QUERIES = range(TILE_SIZE, 513, TILE_SIZE)
_KEYS = range(2 * TILE_SIZE, 1025, 2 * TILE_SIZE)  # pairs of tiles, since the inner loop works on several at a time
_UNIT = 256 * 256 * 128  # queries, keys and width that CHUNK_WORK is for


def core_bytes(chunks: Chunks, width: int, dtype: str, arch: str = WORMHOLE) -> int:
    """Return the bytes of a core's memory that the op takes, at most, for heads of `width` numbers in `dtype`.

    Where each core has one chunk of queries, ttnn keeps one copy of it and takes less.
    """
    queries, keys = (tokens // TILE_SIZE for tokens in chunks)
    across = -(-width // TILE_SIZE)
    operand = int(device_bytes(dtype, (TILE_SIZE, TILE_SIZE)))
    operands = _BUFFERED * across * operand * (queries + 2 * keys)
    return _FIXED_BYTES[arch] + operands + _TILE_BYTES * queries * (keys + _STATISTICS + _RESULTS * across)


def ring_seconds(visual: Shape, text: Shape, chips: int, chunks: Chunks, cores: int) -> float:
    """Return the modelled seconds of one call: queries of `visual` and `text`, keys of `chips` times `visual` and of
    one `text`.

    A text's keys are in the first chip's share alone (see the rule in rules/attention.py).
    """
    queries, keys = chunks
    _, heads, tokens, width = visual
    jobs = heads * (_whole(tokens, queries) + _whole(text[2], queries))
    steps = chips * _whole(tokens, keys) + _whole(text[2], keys)
    work = CHUNK_WORK.value * queries * keys * width / _UNIT
    return _whole(jobs, cores) * steps * (CHUNK_START.value + work)


@cache
def ring_chunks(visual: Shape, text: Shape, chips: int, dtype: str, machine: Machine) -> Chunks:
    """Return the chunks with the least modelled seconds among those that a core has room for.

    Of equals the one with the most work in a step, which has the fewest steps.
    """
    longest = _whole(visual[2], TILE_SIZE) * TILE_SIZE
    sizes = [sorted({min(size, longest) for size in allowed}) for allowed in (_QUERIES, _KEYS)]
    room = CORE_BYTES[machine.arch]
    pairs = [(q, k) for q in sizes[0] for k in sizes[1]]
    fitting = [pair for pair in pairs if core_bytes(pair, visual[3], dtype, machine.arch) <= room]
    return min(fitting, key=lambda c: (ring_seconds(visual, text, chips, c, machine.ring_cores), -c[0] * c[1], c))


def _whole(count: int, size: int) -> int:
    """Return how many pieces of `size` it takes to hold `count`."""
    return -(-count // size)
