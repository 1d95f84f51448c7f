"""Attention with a bias, and joint attention over visual and text tokens."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from mochi_aot.runtime.torch.text_positions import valid_positions
from mochi_aot.runtime.torch.types import Attrs, Builder, Kernel


class Tokens(NamedTuple):
    """Queries, keys and values of the same tokens: [B,N,H,D], or [N,H,D] for one batch row."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor

    def row(self, index: int) -> "Tokens":
        """Return one batch row."""
        return Tokens(*(x[index] for x in self))

    def kept(self, positions: torch.Tensor) -> "Tokens":
        """Return of one batch row the tokens at these positions, an int64 vector."""
        return Tokens(*(x.index_select(0, positions) for x in self))


def by_head(x: torch.Tensor) -> torch.Tensor:
    """Return [N,H,D] as a batch of one, heads first: [1,H,N,D]."""
    return x.transpose(0, 1).unsqueeze(0)


def _attention(attrs: Attrs) -> Kernel:
    """Attend with q, k, v [...,H,L,D]; an optional bias, broadcastable to [...,H,Lq,Lk], is added to the scores."""
    scale, causal = attrs["scale"], attrs["causal"]

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if bias is not None and (q.ndim > 4 or bias.ndim < 2):
            bias = bias.expand(*q.shape[:-1], k.shape[-2])
        if q.ndim == 4:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal, scale=scale)
        # torch's fast attention takes four dimensions.
        flat_q, flat_k, flat_v = (x.flatten(0, -4) for x in (q, k, v))
        flat_bias = None if bias is None else bias.flatten(0, -4)
        out = F.scaled_dot_product_attention(flat_q, flat_k, flat_v, attn_mask=flat_bias, is_causal=causal, scale=scale)
        return out.reshape(*q.shape[:-1], v.shape[-1])

    return attention


def _joint_attention(attrs: Attrs) -> Kernel:
    """Attend with visual q, k, v [B,N,H,D], text q, k, v [B,L,H,D] and mask [B,L] bool -> ([B,N,H,D], [B,L,H,D]).

    The text is compacted to its valid tokens, batch row by batch row: attention without a mask is faster, and padding
    costs nothing. Masked text queries, whose results nobody reads, give zeros.
    """
    scale = attrs["scale"]

    def joint_attention(*tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        visual, text, mask = Tokens(*tensors[:3]), Tokens(*tensors[3:6]), tensors[6]
        attend_row = together if visual.q.is_cuda else apart
        rows, text_out = [], torch.zeros_like(text.q)
        for index, positions in enumerate(valid_positions(mask)):
            out, words_out = attend_row(visual.row(index), text.row(index).kept(positions), scale)
            rows.append(out)
            if len(positions) > 0:
                text_out[index].index_copy_(0, positions, words_out)
        return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows), text_out

    return joint_attention


def apart(row: Tokens, words: Tokens, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend with the visual tokens [N,H,D] of a batch row and its valid words [n,H,D], a call for each."""
    keys, values = torch.cat([row.k, words.k]), torch.cat([row.v, words.v])
    out = _attend(row.q, keys, values, scale)
    return out, _attend(words.q, keys, values, scale) if len(words.q) > 0 else words.q


def together(row: Tokens, words: Tokens, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Do the same in one call: a few queries of the text alone would leave most of a GPU without work."""
    keys, values = torch.cat([row.k, words.k]), torch.cat([row.v, words.v])
    out = _attend(torch.cat([row.q, words.q]), keys, values, scale)
    return out[: len(row.q)], out[len(row.q) :]


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    return F.scaled_dot_product_attention(by_head(q), by_head(k), by_head(v), scale=scale)[0].transpose(0, 1)


ATTENTION: dict[str, Builder] = {"attention": _attention, "joint_attention": _joint_attention}
