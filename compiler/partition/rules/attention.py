"""Attention: heads and batch are cut freely; a cut sequence becomes a ring."""

from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.rules.table import projected, rule, whole_along

BATCH, TOKENS, HEADS = 0, 1, 2  # dimensions of [B, N, H, D]


@rule("rope")
def rope(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    x, *tables = operands
    target = whole_along(x.type, 3)
    # A table is [N, H, D / 2]: x without its batch, half as wide.
    needs = [Shard(c.dim - 1, c.chunk) if isinstance(c, Shard) and c.dim != BATCH else REPLICATE for c in target]
    return p.emit(op, [p.reshard(x, target), *(p.reshard(t, needs) for t in tables)], target)


@rule("attention")
def attention(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Attend with q, k, v [..., H, L, D]; all but the last two dimensions may be cut."""
    q, k, v, *bias = operands
    rank = len(q.type.shape)
    target = whole_along(q.type, rank - 1, rank - 2)
    placed = [p.reshard(t, target) for t in (q, k, v)]
    scores = (*q.type.shape[:-1], k.type.shape[-2])
    placed += [p.reshard(b, projected(target, scores, b.type.shape)) for b in bias]
    return p.emit(op, placed, target)


@rule("joint_attention")
def joint_attention(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Cut visual tokens along one axis: each device keeps its queries, and keys and values go round the ring.

    A ring asks nothing of the number of heads, and each hop can hide behind a block of attention. It goes along one
    axis: tokens that both axes cut become heads along the minor one, by an all_to_all before and one after (Jacobs et
    al., DeepSpeed Ulysses, 2023; both together are USP, Fang and Zhao, 2024).
    """
    visual, text, mask = operands[:3], operands[3:6], operands[6]
    target = _tokens_cut_once(p, visual[0].type)
    rings = [axis for axis, c in enumerate(target) if isinstance(c, Shard) and c.dim == TOKENS]
    # The text is whole along the ring. It is short beside a device's share of the video, so that the work on it hardly
    # grows, nothing of it is gathered or cut, and its length need not divide.
    text_target: list[Placement] = [REPLICATE if axis in rings else c for axis, c in enumerate(target)]
    mask_target = [c if isinstance(c, Shard) and c.dim == BATCH else REPLICATE for c in target]
    placed = [p.reshard(v, target) for v in visual]
    placed += [p.reshard(v, text_target) for v in text]
    placed.append(p.reshard(mask, mask_target))
    types = [op.results[0].type.placed(tuple(target)), op.results[1].type.placed(tuple(text_target))]
    if not rings:
        return p.emit_as(op.opcode, placed, types, op.attrs)
    (axis,) = rings
    type = placed[0].type
    attrs = {**op.attrs, "axis": axis, "size": type.shape[TOKENS], "chunk": type.local_shape[TOKENS]}
    seen, read = p.emit_as("ring_joint_attention", placed, types, attrs)
    return [p.reshard(seen, whole_along(visual[0].type, 3)), read]


def _tokens_cut_once(p: Partitioner, type: TensorType) -> list[Placement]:
    """Return where queries [B, N, H, D] are wanted: as they are, but for tokens that both axes cut.

    Raise PlanError where the heads do not divide over the minor axis.
    """
    target = whole_along(type, 3)
    if [c.dim for c in target if isinstance(c, Shard)] != [TOKENS, TOKENS]:
        return target
    minor = len(target) - 1
    heads, pieces = type.shape[HEADS], p.mesh[minor]
    if heads % pieces:
        raise p.fail(f"{heads} heads do not divide by the {pieces} devices of mesh axis {minor}")
    return [*target[:minor], Shard(HEADS, heads // pieces)]
