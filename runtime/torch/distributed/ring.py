"""Ring attention among processes: the next block of keys and values travels while this one is attended to."""

from collections.abc import Sequence

import torch

from mochi_aot.runtime.torch.attention import Tokens
from mochi_aot.runtime.torch.distributed.axis import Axis
from mochi_aot.runtime.torch.ring_attention import Partial, attend
from mochi_aot.runtime.torch.text_positions import valid_positions


def ring_joint_attention(
    axis: Axis, visual: Tokens, text: Tokens, mask: torch.Tensor, extents: Sequence[int], scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend as the simulation's function of this name does, merging in the same order; see there.

    visual: this process's tokens [B,chunk,H,D]. Return its visual output and the text's, [B,L,H,D].
    """
    dtype = text.q.dtype
    words = [text.row(row).kept(positions) for row, positions in enumerate(valid_positions(mask))]
    totals: list[Partial | None] = [None] * len(words)
    text_parts: list[Partial | None] = [None] * len(words)
    held = torch.stack([visual.k, visual.v])
    me, count = axis.coordinate, axis.size
    for hop in range(count):
        source = (me - hop) % count
        arriving = torch.empty_like(held) if hop + 1 < count else held
        turn = hop + 1 < count
        wait = axis.start({(me + 1) % count: held}, {(me - 1) % count: arriving}) if turn else None
        for row, row_words in enumerate(words):
            block = _block(held[:, row, : extents[source]], row_words if hop == 0 else None)
            if len(block[0]) > 0:
                part = attend(visual.q[row], *block, scale)
                before = totals[row]
                totals[row] = part if before is None else before.merged(part)
            if hop == 0:
                text_parts[row] = _text_part(visual.row(row), row_words, extents[me], me == 0, scale)
        if wait is not None:
            wait()
        held = arriving
    visual_out = torch.stack([_whole(part).sequence() for part in totals]).to(dtype)
    return visual_out, _text_out(axis, text, mask, text_parts, extents)


def _block(tokens: torch.Tensor, words: Tokens | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys and values of tokens [2,K,H,D], and of the text behind them."""
    keys, values = tokens
    return (keys, values) if words is None else (torch.cat([keys, words.k]), torch.cat([values, words.v]))


def _text_part(visual: Tokens, words: Tokens, extent: int, with_text: bool, scale: float) -> Partial | None:
    """Return the text's attention to this process's block, to which one process adds the text; None without keys."""
    tokens = torch.stack([visual.k[:extent], visual.v[:extent]])
    keys, values = _block(tokens, words if with_text else None)
    return attend(words.q, keys, values, scale) if len(keys) > 0 and len(words.q) > 0 else None


def _text_out(
    axis: Axis, text: Tokens, mask: torch.Tensor, parts: Sequence[Partial | None], extents: Sequence[int]
) -> torch.Tensor:
    """Merge the parts of all processes in the order of their coordinates: so the replicas are equal to the last bit."""
    out = torch.zeros_like(text.q)
    for row, (own, positions) in enumerate(zip(parts, valid_positions(mask), strict=True)):
        if len(positions) == 0:
            continue
        heads, width = text.q.shape[2:]
        sent = text.q.new_zeros((1, heads, len(positions), width + 1), dtype=torch.float32)
        if own is not None:
            sent = torch.cat([own.out, own.lse.unsqueeze(-1)], -1)
        total = None
        for coordinate, received in enumerate(axis.gather(sent)):
            if extents[coordinate] > 0 or coordinate == 0:  # the others have no keys
                part = Partial(received[..., :width], received[..., width])
                total = part if total is None else total.merged(part)
        out[row].index_copy_(0, positions, _whole(total).sequence().to(out.dtype))
    return out


def _whole(total: Partial | None) -> Partial:
    if total is None:
        raise ValueError("attention without a single key")
    return total
