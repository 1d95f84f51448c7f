from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.layout import ALIGNMENT, align


@given(st.integers(0, 1 << 40))
def test_align_goes_to_the_next_page(offset: int) -> None:
    assert align(offset) % ALIGNMENT == 0
    assert 0 <= align(offset) - offset < ALIGNMENT
