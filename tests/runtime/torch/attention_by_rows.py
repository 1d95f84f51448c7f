"""Joint attention as its definition reads: one query at a time, in float64."""

import torch
from torch import Tensor

from tests.runtime.torch.programs import normal


def one_query(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """query [D] and keys, values [K,D] -> [D]."""
    weights = torch.exp(scale * (keys @ query))
    return (weights[:, None] * values).sum(0) / weights.sum()


def joint_attention(tensors: list[Tensor], mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """q, k, v [B,N,H,D] and q, k, v [B,L,H,D] of the text; rows of masked text queries are zeros."""
    q, k, v, q_text, k_text, v_text = (x.double() for x in tensors)
    out, out_text = torch.zeros_like(q), torch.zeros_like(q_text)
    for b in range(q.shape[0]):
        valid = [i for i in range(mask.shape[1]) if mask[b, i]]
        for h in range(q.shape[2]):
            keys = torch.cat([k[b, :, h], k_text[b, valid, h]])
            values = torch.cat([v[b, :, h], v_text[b, valid, h]])
            for n in range(q.shape[1]):
                out[b, n, h] = one_query(q[b, n, h], keys, values, scale)
            for i in valid:
                out_text[b, i, h] = one_query(q_text[b, i, h], keys, values, scale)
    return out, out_text


def operands(visual: int, text: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Six tensors of two batch rows, two heads, eight wide."""
    lengths = (visual, visual, visual, text, text, text)
    return [normal(seed, 2, length, 2, 8, dtype=dtype) for seed, length in enumerate(lengths)]


def mask_of(text: int, *rows: list[int]) -> Tensor:
    """bool [len(rows), text], true at the positions given."""
    mask = torch.zeros(len(rows), text, dtype=torch.bool)
    for row, positions in enumerate(rows):
        mask[row, positions] = True
    return mask
