"""Chunks of ring attention: seconds by hand, memory against what ttnn said, and what it accepts."""

import json
import os
import subprocess
import sys
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.machines import BLACKHOLE, WORMHOLE
from mochi_aot.compiler.lower.ttnn.chip_constants import (
    BLACKHOLE_BOARDS,
    BLACKHOLE_GALAXY,
    GALAXY,
    LOUDBOX,
    Machine,
    machine_of,
)
from mochi_aot.compiler.lower.ttnn.ring_chunks import CORE_BYTES, core_bytes, ring_chunks, ring_seconds
from tests.compiler.lower.ttnn.ring_on_mock import Case

ROOT = Path(__file__).parents[4]
TEXT = 256

# Bytes of a core's memory that ttnn 0.81.1 said it would take when it refused, on a mocked 2x4, each core with several
# chunks of queries: width of a head, dtype, queries, keys, bytes.
REFUSED = [
    (128, "bfloat16", 288, 512, 1_547_712),
    (128, "bfloat16", 320, 512, 1_648_064),
    (128, "bfloat16", 256, 576, 1_545_664),
    (128, "bfloat16", 224, 640, 1_535_424),
    (128, "bfloat16", 128, 960, 1_619_392),
    (128, "bfloat16", 640, 1024, 3_831_232),
    (128, "bfloat8_b", 384, 512, 1_510_848),
    (128, "bfloat8_b", 512, 640, 2_082_240),
    (128, "bfloat8_b", 544, 672, 2_235_328),
    (128, "bfloat8_b", 640, 1024, 3_186_112),
]
# As these, with one chunk of queries a core, of which there is then one copy.
REFUSED_ONCE = [
    (32, "bfloat16", 1024, 1056, 3_470_784),
    (64, "bfloat16", 1056, 1024, 4_091_328),
    (64, "bfloat8_b", 2080, 2048, 11_601_472),
    (96, "bfloat16", 1056, 1056, 4_783_552),
    (256, "bfloat8_b", 2048, 2080, 16_833_984),
]


@pytest.mark.parametrize(("width", "dtype", "queries", "keys", "seen"), REFUSED)
def test_a_core_s_memory_is_what_ttnn_says(width: int, dtype: str, queries: int, keys: int, seen: int) -> None:
    assert core_bytes((queries, keys), width, dtype) == seen > CORE_BYTES[WORMHOLE]


@pytest.mark.parametrize(("width", "dtype", "queries", "keys", "seen"), REFUSED_ONCE)
def test_one_copy_of_the_queries_is_less(width: int, dtype: str, queries: int, keys: int, seen: int) -> None:
    copy = (queries // 32) * (width // 32) * {"bfloat16": 2048, "bfloat8_b": 1088}[dtype]
    assert core_bytes((queries, keys), width, dtype) == seen + copy


def test_seconds_by_hand() -> None:
    """On 2x4: 11136 tokens are 35 chunks of 320 queries and 29 of 384 keys, the text one of each."""
    visual, text = (1, 12, 11136, 128), (1, 12, 256, 128)
    # 12 * 36 = 432 jobs are 8 passes over 56 cores; a step is 9 us and 28.6 us for each 256 by 256
    assert ring_seconds(visual, text, 4, (320, 384), 56) == pytest.approx(8 * 117 * (9e-6 + 28.6e-6 * 1.875))
    # 12 * 45 = 540 jobs are 10 passes
    assert ring_seconds(visual, text, 4, (256, 256), 56) == pytest.approx(10 * 177 * 37.6e-6)
    # heads half as wide have half the work
    narrow = ring_seconds((1, 12, 11136, 64), text, 4, (256, 256), 56)
    assert narrow == pytest.approx(10 * 177 * (9e-6 + 14.3e-6))


def test_the_choice_at_full_size() -> None:
    """Seconds of the 96 calls of a step before, in chunks of 256 by 256, and after."""
    expected = {
        ((1, 12, 11136, 128), 4, LOUDBOX, "bfloat16"): ((320, 384), 6.39, 5.63),
        ((1, 6, 5568, 128), 8, GALAXY, "bfloat16"): ((288, 448), 1.92, 1.32),
        ((1, 12, 11136, 128), 4, LOUDBOX, "bfloat8_b"): ((416, 384), 6.39, 5.30),
        ((1, 6, 5568, 128), 8, GALAXY, "bfloat8_b"): ((288, 704), 1.92, 1.22),
    }
    for (visual, chips, machine, dtype), (chunks, before, after) in expected.items():
        text = (1, visual[1], TEXT, 128)
        assert ring_chunks(visual, text, chips, dtype, machine) == chunks
        for pair, seconds in (((256, 256), before), (chunks, after)):
            one = ring_seconds(visual, text, chips, pair, machine.ring_cores)
            assert 96 * one == pytest.approx(seconds, abs=0.005)


@given(
    heads=st.integers(1, 24),
    tiles=st.integers(1, 700),
    chips=st.integers(2, 32),
    width=st.sampled_from((32, 64, 128)),
    dtype=st.sampled_from(("bfloat16", "bfloat8_b")),
    machine=st.sampled_from((LOUDBOX, GALAXY, BLACKHOLE_BOARDS, BLACKHOLE_GALAXY)),
)
def test_a_choice_fits_and_is_no_slower(
    heads: int, tiles: int, chips: int, width: int, dtype: str, machine: Machine
) -> None:
    """Whole tiles, no longer than what there is, and by the model no slower than the pairs that practice uses."""
    tokens = 32 * tiles
    visual, text = (1, heads, tokens, width), (1, heads, TEXT, width)
    chunks = ring_chunks(visual, text, chips, dtype, machine)
    assert all(size % 32 == 0 and 32 <= size <= tokens for size in chunks)
    assert core_bytes(chunks, width, dtype, machine.arch) <= CORE_BYTES[machine.arch]
    best = ring_seconds(visual, text, chips, chunks, machine.ring_cores)
    for usual in ((128, 512), (256, 256), (256, 512)):
        pair = (min(usual[0], tokens), min(usual[1], tokens))
        assert best <= ring_seconds(visual, text, chips, pair, machine.ring_cores)


# Visual tokens of videos, 16 by 16 pixels and 6 frames each: 480x848x163, the same of 31 and of one frame, 768x1360x85,
# 240x432x61, and small ones.
TOKENS = (44520, 9540, 1590, 61200, 4455, 600, 90)
MESHES = ((1, 2), (2, 4), (1, 8), (4, 8))
CASES = [*((WORMHOLE, mesh) for mesh in MESHES), *((BLACKHOLE, mesh) for mesh in ((1, 2), (2, 4)))]


def chosen(mesh: tuple[int, int], arch: str) -> list[Case]:
    """The chunks for both axes as rings, all videos and dtypes, of 24 heads as in Mochi, and of narrower ones."""
    cases: list[Case] = []
    for axis in (axis for axis in (0, 1) if mesh[axis] > 1):
        for whole in TOKENS:
            tokens = ceil(whole / mesh[axis] / 32) * 32
            for dtype in ("bfloat16", "bfloat8_b"):
                for width in (128, 64):
                    heads = 24 // mesh[1 - axis]
                    visual, text = (1, heads, tokens, width), (1, heads, TEXT, width)
                    queries, keys = ring_chunks(visual, text, mesh[axis], dtype, machine_of(mesh, arch))
                    cases.append((heads, tokens, TEXT, width, dtype, queries, keys, axis))
    return cases


def too_long(mesh: tuple[int, int]) -> list[Case]:
    """Chunks that do not fit, of so many queries that each core has several chunks."""
    axis = 1
    heads = 24 // mesh[0]
    return [
        (heads, 11136, TEXT, width, dtype, queries, keys, axis)
        for width, dtype, queries, keys in ((128, "bfloat16", 288, 512), (128, "bfloat8_b", 352, 704))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "mesh"), CASES, ids=[f"{arch}-{rows}x{columns}" for arch, (rows, columns) in CASES])
def test_ttnn_accepts_every_choice(arch: str, mesh: tuple[int, int], tmp_path: Path) -> None:
    """The real op's checks and allocators; and it refuses what is predicted not to fit, for the bytes predicted."""
    accepted, refused = chosen(mesh, arch), too_long(mesh)
    module, folder = "tests.compiler.lower.ttnn.ring_on_mock", str(tmp_path / "mock")
    command = [sys.executable, "-m", module, *map(str, mesh), arch, folder]
    done = subprocess.run(
        command,
        input=json.dumps(accepted + refused),
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("answers: "))
    answers = json.loads(line.removeprefix("answers: "))
    assert answers == [None] * len(accepted) + [core_bytes((c[5], c[6]), c[3], c[4], arch) for c in refused], (
        done.stderr
    )
