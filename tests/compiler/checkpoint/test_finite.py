"""The first element of a tensor that is not finite, in every dtype that weights have, wherever it is."""

import pytest
import torch

from mochi_aot.compiler.checkpoint.errors import WeightError
from mochi_aot.compiler.checkpoint.finite import check_finite

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])


@DTYPES
def test_the_extremes_of_a_dtype_pass(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    check_finite(torch.tensor([[limits.max, limits.min, limits.tiny, -0.0]], dtype=dtype), 0, "x")
    check_finite(torch.empty((0, 4), dtype=dtype), 0, "x")


@DTYPES
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("place", [(0, 0, 0), (3, 4, 5), (2, 0, 5)])
def test_its_index_is_the_whole_tensors(dtype: torch.dtype, number: str, place: tuple[int, ...]) -> None:
    rows = torch.ones(4, 5, 6, dtype=dtype)
    rows[place] = float(number)
    rows[3, 4, 5] = float(number)  # a later one
    index = [100 + place[0], *place[1:]]
    with pytest.raises(WeightError) as caught:
        check_finite(rows, 100, "file: key")
    assert str(caught.value).startswith(f"file: key{index} is {number}, which is not a finite number: ")


def test_a_vector() -> None:
    with pytest.raises(WeightError, match=r"^v\[12\] is nan"):
        check_finite(torch.tensor([1.0, 2.0, float("nan")]), 10, "v")


def test_a_number_alone() -> None:
    """As a LoRA's alpha is."""
    check_finite(torch.tensor(8.0), 0, "alpha")
    with pytest.raises(WeightError, match=r"^a\.alpha is inf, which is not a finite number: "):
        check_finite(torch.tensor(float("inf")), 0, "a.alpha")
