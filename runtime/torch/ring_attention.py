"""Joint attention over a sequence that is sharded along a mesh axis: keys and values travel round a ring."""

from dataclasses import dataclass

import torch

from mochi_aot.runtime.torch.attention import Tokens, by_head
from mochi_aot.runtime.torch.text_positions import valid_positions

_FLASH_DTYPES = (torch.bfloat16, torch.float16)  # that flash attention on GPUs has kernels for
_SCORE_BYTES = 1 << 30  # of scores at a time: those of a full video are 180 GB


@dataclass(frozen=True)
class Partial:
    """Attention to some of the keys, float32: out [1,H,N,D] and lse [1,H,N], the logarithm of the softmax's sum."""

    out: torch.Tensor
    lse: torch.Tensor

    def merged(self, other: "Partial") -> "Partial":
        """Return the attention to the keys of both: each output weighs as its share of the joint softmax sum."""
        lse = torch.logaddexp(self.lse, other.lse)
        weight, weight_other = (torch.exp(part - lse).unsqueeze(-1) for part in (self.lse, other.lse))
        return Partial((self.out * weight).addcmul_(other.out, weight_other), lse)

    def sequence(self) -> torch.Tensor:
        """Return the output as [N,H,D]."""
        return self.out[0].transpose(0, 1)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> Partial:
    """Return the attention of q [N,H,D] to one block of keys and values [K,H,D], K > 0."""
    q, k, v = by_head(q), by_head(k), by_head(v)
    if q.device.type == "cpu":
        # The kernel under scaled_dot_product_attention on the CPU; that function itself does not give the lse.
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
        return Partial(out.float(), lse)
    if q.dtype in _FLASH_DTYPES:
        # The same of GPUs, as scaled_dot_product_attention calls it.
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
        return Partial(out.float(), lse)
    return attend_by_scores(q, k, v, scale)


def attend_by_scores(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, most_bytes: int = _SCORE_BYTES
) -> Partial:
    """Return the same from q [1,H,N,D] and k, v [1,H,K,D] by the definition.

    The scores of as many queries are in memory at a time as take no more than `most_bytes`, or of one.
    """
    together = max(1, most_bytes // (4 * k.shape[1] * k.shape[2]))
    k, v = k.float().transpose(-1, -2), v.float()
    outs, lses = [], []
    for some in q.split(together, 2):
        scores = (some.float() * scale) @ k
        outs.append(torch.softmax(scores, -1) @ v)
        lses.append(torch.logsumexp(scores, -1))
    return Partial(torch.cat(outs, 2), torch.cat(lses, 2))


@dataclass(frozen=True)
class Ring:
    """One batch row: visual tokens [chunk,H,D] a device, of which `extents` are real, and the valid text tokens."""

    visual: list[Tokens]
    extents: list[int]
    text: Tokens
    scale: float

    def visual_out(self, device: int) -> torch.Tensor:
        """Return [chunk,H,D] float32: a device attends to its own block and the text, and to one more block a hop."""
        q, count = self.visual[device].q, len(self.visual)
        # After `hop` hops a device holds the block of its hop-th predecessor.
        sources = [(device - hop) % count for hop in range(count)]
        return self._attend(q, sources, text_with=device)

    def text_out(self) -> torch.Tensor:
        """Return [valid,H,D] float32. Each device attends to its own block, and all merge the parts in device order.

        So the replicas stay equal to the last bit, and no device repeats the work of another.
        """
        return self._attend(self.text.q, list(range(len(self.visual))), text_with=0)

    def _attend(self, q: torch.Tensor, sources: list[int], text_with: int) -> torch.Tensor:
        """Merge the attention of q to the blocks of `sources`, in order; the text keys join the block `text_with`."""
        total = None
        for source in sources:
            keys, values = self._block(source, source == text_with)
            if len(keys) > 0:
                part = attend(q, keys, values, self.scale)
                total = part if total is None else total.merged(part)
        if total is None:
            raise ValueError("attention without a single key")
        return total.sequence()

    def _block(self, source: int, with_text: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values that device `source` starts with, without padding."""
        tokens, extent = self.visual[source], self.extents[source]
        keys, values = tokens.k[:extent], tokens.v[:extent]
        if with_text:
            return torch.cat([keys, self.text.k]), torch.cat([values, self.text.v])
        return keys, values


def ring_joint_attention(
    visual: list[Tokens], text: Tokens, mask: torch.Tensor, extents: list[int], scale: float
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Attend with visual tokens [B,chunk,H,D] of each device, text tokens [B,L,H,D] and their mask [B,L] bool.

    `extents` says how many visual positions of each device are real. Gives each device's visual output [B,chunk,H,D]
    and the text output [B,L,H,D], one tensor for all; masked text queries give zeros.
    """
    dtype, devices = text.q.dtype, range(len(visual))
    text_out = torch.zeros_like(text.q)
    rings = []
    for row, positions in enumerate(valid_positions(mask)):
        ring = Ring([tokens.row(row) for tokens in visual], extents, text.row(row).kept(positions), scale)
        if len(positions) > 0:
            text_out[row].index_copy_(0, positions, ring.text_out().to(dtype))
        rings.append(ring)
    return [(torch.stack([ring.visual_out(d) for ring in rings]).to(dtype), text_out) for d in devices]
