"""The hash of a parameter is that of all its rows, in whatever order and by however many threads they are read."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.compiler.checkpoint import contents
from mochi_aot.compiler.checkpoint.contents import Contents

ROWS = torch.arange(60, dtype=torch.float32).reshape(20, 3)
EXPECTED = blake3(ROWS.numpy().tobytes()).hexdigest()


class Reader:
    """Reads rows and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        self.count += stop - start
        return ROWS[start:stop]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20))))
def test_any_pieces_in_any_order(pieces: list[tuple[int, int]]) -> None:
    found = Contents(20, 12)
    for start, count in pieces:
        found.offer(start, ROWS[start : start + count])
    assert found.digest(Reader()) == EXPECTED


def test_what_was_read_in_order_is_not_read_again() -> None:
    found, read = Contents(20, 12), Reader()
    for start in range(0, 16, 4):
        found.offer(start, ROWS[start : start + 4])
    found.offer(18, ROWS[18:])  # not its turn
    assert found.digest(read) == EXPECTED
    assert read.count == 4
    assert found.digest(read) == EXPECTED
    assert read.count == 4


def test_rows_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "BLOCK_BYTES", 3 * 12)
    asked: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> torch.Tensor:
        asked.append((start, stop))
        return ROWS[start:stop]

    assert Contents(20, 12).digest(read) == EXPECTED
    assert asked == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 18), (18, 20)]


def test_threads_may_read_the_same_rows() -> None:
    for _ in range(50):
        found = Contents(20, 12)

        def offer(_: int, found: Contents = found) -> str:
            for start in range(20):
                found.offer(start, ROWS[start : start + 1])
            return found.digest(Reader())

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(offer, range(8))) == {EXPECTED}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_numbers_count_as_they_are_stored(dtype: torch.dtype) -> None:
    """Minus zero is another number than zero here."""
    zeros = [torch.tensor([[zero]], dtype=dtype) for zero in (0.0, -0.0)]
    digests = [Contents(1, dtype.itemsize).digest(lambda start, stop, zero=zero: zero) for zero in zeros]
    assert digests[0] == blake3(bytes(dtype.itemsize)).hexdigest() != digests[1]


def test_a_hash_that_is_trusted_needs_no_reading_and_is_checked_by_it() -> None:
    right, wrong = Contents(20, 12, EXPECTED), Contents(20, 12, "0" * 64)
    read = Reader()
    assert (right.digest(read), wrong.digest(read), read.count) == (EXPECTED, "0" * 64, 0)
    for found, contradicted in ((right, False), (wrong, True)):
        found.offer(0, ROWS[:19])
        assert not found.contradicts()
        found.offer(19, ROWS[19:])
        assert found.contradicts() == contradicted
