"""Attention whose keys travel around a ring of chips, with what ttnn 0.81.1 does wrong. All is read from the call."""

from collections.abc import Sequence
from typing import Any

import torch
import ttnn
from torch import Tensor

from mochi_aot.tools.golden.definitions.video import require_line
from mochi_aot.tools.golden.formats import widened
from mochi_aot.tools.golden.local import golden_function
from mochi_aot.tools.golden.types import ChipMesh, Chips, Definition, GoldenError

RING = "transformer.ring_joint_scaled_dot_product_attention"
TILE = 32
SEQUENCE = 2  # dimension of [B, H, tokens, D]


def _ring_joint(
    mesh: ChipMesh,
    q: Chips,
    k: Chips,
    v: Chips,
    joint_q: Chips,
    joint_k: Chips,
    joint_v: Chips,
    *,
    persistent_output_buffer_k: Chips,
    persistent_output_buffer_v: Chips,
    persistent_output_buffer_joint_k: Chips,
    persistent_output_buffer_joint_v: Chips,
    multi_device_global_semaphore: list[Any],
    joint_strategy: str,
    logical_n: int,
    logical_l: Chips,
    program_config: ttnn.SDPAProgramConfig,
    ccl_core_grid_offset: ttnn.CoreCoord,
    scale: float,
    compute_kernel_config: ttnn.WormholeComputeKernelConfig,
    dim: int,
    num_links: int,
    cluster_axis: int,
    mesh_device: ChipMesh,
    topology: ttnn.Topology,
) -> tuple[Chips, Chips, None]:
    """Attention of tokens and of text, both [B, H, what a chip holds, D], over all chips along `cluster_axis`.

    The text of the ring is its chips' shares one after the other, of which the first `logical_l` tokens count, with a
    length on each chip. Every query attends to the tokens before `logical_n` and to the text that counts. Results are
    bfloat16. The attention itself is ttnn's own definition of it.
    """
    ring = mesh.shape[cluster_axis]
    require_line(topology)
    _require("joint_strategy and dim", (joint_strategy, dim), ("rear", SEQUENCE))
    _require("semaphores", len(set(map(id, multi_device_global_semaphore))), 2)
    _require_buffers([persistent_output_buffer_k, persistent_output_buffer_v], k, ring)
    _require_buffers([persistent_output_buffer_joint_k, persistent_output_buffer_joint_v], joint_k, ring)
    _require_cores(program_config, ccl_core_grid_offset, compute_kernel_config)
    _require("mesh", mesh_device, mesh)
    share = joint_k.shape[SEQUENCE]
    visual, text = list(q.pieces), list(joint_q.pieces)
    for group in mesh.groups(cluster_axis):
        keys, values, text_keys, text_values = (
            torch.cat([widened(part.pieces[chip]) for chip in group], SEQUENCE) for part in (k, v, joint_k, joint_v)
        )
        for chip in group:
            length = int(logical_l.pieces[chip])
            seen = attended_text(length, share, ring, program_config.k_chunk_size, mesh.defects)
            mixed = _attend(
                [widened(q.pieces[chip]), widened(joint_q.pieces[chip])],
                torch.cat([keys[:, :, :logical_n], text_keys[:, :, seen]], SEQUENCE),
                torch.cat([values[:, :, :logical_n], text_values[:, :, seen]], SEQUENCE),
                scale,
            )
            visual[chip], text[chip] = (mesh.held(part, ttnn.bfloat16) for part in mixed)
    # Nothing asks for the logarithms of the sums, the third result.
    return Chips(visual, ttnn.bfloat16, q.layout), Chips(text, ttnn.bfloat16, q.layout), None


def attended_text(length: int, share: int, ring: int, chunk: int, defect: bool = True) -> list[int]:
    """Which tokens of the ring's text are attended to, of `ring` shares of `share` tokens: those before `length`.

    The defect, read from the kernels of ttnn 0.81.1 (ring_joint_sdpa.cpp, compute_streaming.hpp): where a length is
    within a tile, a mask of the tokens past it is laid over that tile. In each share that has no whole number of chunks
    of keys, it is laid over the last tile that is not padding, and so over that of shares which lie before the length.

    GoldenError for shares and chunks that are not whole tiles, or a length that is more than the text.
    """
    if share % TILE or chunk % TILE or not 0 <= length <= ring * share:
        raise GoldenError(f"{length} tokens of {ring} shares of {share}, in chunks of {chunk}")
    last = length % TILE
    spoiled = defect and last and share % chunk
    attended: list[int] = []
    for start in range(0, length, share):
        stop = start + share
        if stop > length:
            attended += range(start, length)
        else:
            attended += range(start, stop - TILE + last if spoiled else stop)
    return attended


def _attend(queries: Sequence[Tensor], keys: Tensor, values: Tensor, scale: float) -> Sequence[Tensor]:
    joined = torch.cat(list(queries), SEQUENCE)
    mixed, *_ = golden_function(RING)(joined, keys, values, logical_n=keys.shape[SEQUENCE], scale=scale)
    parts: Sequence[Tensor] = mixed.split([part.shape[SEQUENCE] for part in queries], SEQUENCE)
    return parts


def _require(what: str, seen: Any, expected: Any) -> None:
    if seen != expected:
        raise GoldenError(f"{RING}: {what}: seen {seen}, expected {expected}")


def _require_buffers(buffers: list[Chips], arriving: Chips, ring: int) -> None:
    """Require room for what arrives from all chips, and that keys do not arrive where values do."""
    batch, heads, tokens, width = arriving.shape
    expected = ([batch, heads, tokens * ring, width], arriving.dtype)
    for buffer in buffers:
        _require("a persistent buffer", (buffer.shape, buffer.dtype), expected)
    _require("buffers of keys and values", len(set(map(id, buffers))), 2)


def _require_cores(
    program_config: ttnn.SDPAProgramConfig, offset: ttnn.CoreCoord, compute: ttnn.WormholeComputeKernelConfig
) -> None:
    """Cores either compute or send; and sums are bfloat16, since only then does a length in a tensor count."""
    cores = program_config.compute_with_storage_grid_size
    if offset.x < cores.x and offset.y < cores.y:
        raise GoldenError(f"{RING}: cores from {offset} on are to send, and to compute as well")
    _require("sums in float32", compute.fp32_dest_acc_en, False)


THEIRS: dict[str, Definition] = {}
OURS: dict[str, Definition] = {RING: _ring_joint}
