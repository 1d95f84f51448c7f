"""What one run of a partitioned program costs a device: floating-point operations, weight bytes, bytes sent.

Bytes sent are what a device puts on its links to neighbours along one mesh axis, passing on included, the mean over the
devices of the axis. For `n` devices in a line or a ring (the formulas are those of the ring algorithms, as NCCL's tests
state them in PERFORMANCE.md; a line has the same mean, and devices in its middle send more than those at its ends):

- all_gather: each of n pieces crosses n - 1 links: n - 1 pieces a device.
- reduce_scatter: a sum for each of n pieces crosses n - 1 links: (n - 1) / n of the whole value a device.
- all_reduce: a reduce_scatter, then an all_gather: twice (n - 1) / n of the whole.
- ring attention: an all_gather of keys and values (Liu et al., Ring Attention, 2023).
- halo exchange: each of n - 1 borders is crossed by `before` slabs one way and `after` the other.
- all_to_all: each of n - 1 pieces of what a device holds goes straight to another device, over (n + 1) / 3 links of a
  line in the mean: (n * n - 1) / (3 * n) of what it holds.
"""

import math
from dataclasses import dataclass, field

from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.compiler.ir.ops import COLLECTIVES, integer
from mochi_aot.compiler.ir.program import Op, Program, Value
from mochi_aot.compiler.ir.types import TensorType

FLOAT8_PRODUCT = "linear_float8"


@dataclass(frozen=True)
class Cost:
    """Per device. `flops` counts a multiply and an add as two, in products, attention and convolutions alone;
    `float8_flops` are those of them that are made in float8."""

    flops: int = 0
    weight_bytes: int = 0
    collective_bytes: int = 0
    collectives: dict[str, int] = field(default_factory=dict)
    float8_flops: int = 0


def cost_of(program: Program) -> Cost:
    """Return the cost of one run of `program`."""
    mesh = program.mesh or (1, 1)
    counts: dict[str, int] = {}
    for op in program.ops:
        if op.opcode in COLLECTIVES and op.opcode != "shard":
            counts[op.opcode] = counts.get(op.opcode, 0) + 1
    return Cost(
        flops=sum(_flops(op) for op in program.ops),
        weight_bytes=sum(param.value.type.local_nbytes for param in program.params),
        collective_bytes=sum(bytes_sent(op, mesh) for op in program.ops),
        collectives=counts,
        float8_flops=sum(_flops(op) for op in program.ops if op.opcode == FLOAT8_PRODUCT),
    )


def _flops(op: Op) -> int:
    def local(value: Value) -> tuple[int, ...]:
        return value.type.local_shape

    if op.opcode in ("linear", FLOAT8_PRODUCT):
        return 2 * math.prod(local(op.operands[0])) * local(op.operands[1])[0]
    if op.opcode == "matmul":
        return 2 * math.prod(local(op.result)) * local(op.operands[0])[-1]
    if op.opcode == "causal_conv3d":
        return 2 * math.prod(local(op.result)) * math.prod(local(op.operands[1])[1:])
    if op.opcode == "attention":
        q, k = local(op.operands[0]), local(op.operands[1])
        return 4 * math.prod(q) * k[-2]
    if op.opcode in ("joint_attention", "ring_joint_attention"):
        q, text = local(op.operands[0]), local(op.operands[3])
        keys = integer(op.attrs.get("size", q[1])) + local(op.operands[6])[1]
        return 4 * q[0] * (q[1] + text[1]) * keys * q[2] * q[3]
    return 0


def gathered(piece: float, pieces: int) -> float:
    """Return the bytes sent by each of `pieces` devices that gather pieces of `piece` bytes."""
    return (pieces - 1) * piece


def scattered(whole: float, pieces: int) -> float:
    """Return the bytes sent by each of `pieces` devices that each keep a piece of the sum of `whole` bytes."""
    return (pieces - 1) * whole / pieces


def swapped(whole: float, pieces: int) -> float:
    """Return the bytes sent by each of `pieces` devices in a line that hold `whole` bytes each, and swap pieces."""
    return (pieces * pieces - 1) * whole / (3 * pieces)


def reduced(whole: float, pieces: int) -> float:
    """Return the bytes sent by each of `pieces` devices that all keep the sum of `whole` bytes."""
    return 2 * scattered(whole, pieces)


def halo(borders: float, pieces: int) -> float:
    """Return the bytes sent by each of `pieces` devices where `borders` bytes, both ways together, cross between two
    neighbours."""
    return (pieces - 1) * borders / pieces


def bytes_sent(op: Op, mesh: tuple[int, int]) -> int:
    """Return the bytes that a device sends for a collective, zero for other ops."""
    if op.opcode not in COLLECTIVES or op.opcode == "shard":
        return 0
    pieces = mesh[integer(op.attrs["axis"])]
    operand = op.operands[0].type
    if op.opcode == "halo_exchange":
        return int(halo(_border_bytes(op, operand), pieces))
    if op.opcode == "ring_joint_attention":
        return int(gathered(sum(v.type.local_nbytes for v in op.operands[1:3]), pieces))
    if op.opcode == "all_gather":
        return int(gathered(operand.local_nbytes, pieces))
    if op.opcode == "all_reduce":
        return int(reduced(operand.local_nbytes, pieces))
    if op.opcode == "all_to_all":
        return int(swapped(operand.local_nbytes, pieces))
    return int(scattered(operand.local_nbytes, pieces))  # reduce_scatter


def _border_bytes(op: Op, operand: TensorType) -> int:
    shape = operand.local_shape
    slab = math.prod(shape) // shape[integer(op.attrs["dim"])] * DTYPES[operand.dtype].itemsize
    return (integer(op.attrs["before"]) + integer(op.attrs["after"])) * slab
