"""Every row of the runtime's table does with ttnn what torch does without it."""

import pytest
import torch
import ttnn

from mochi_aot.runtime.ttnn.ops import OPS
from tests.ttnn_golden.cases import CASES, Case
from tests.ttnn_golden.chips import executed, normal, on_chips, on_one


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_row(case: Case) -> None:
    """float32 sums of up to 1728 terms in another order; what is bfloat16 may round the other way by that."""
    results = executed(case.op, *case.operands, mesh=case.mesh, **case.attrs)
    for result, expected in zip(results, case.results, strict=True):
        for piece, wanted in zip(result.pieces, expected, strict=True):
            rounded = {"rtol": 2**-7, "atol": 1e-3} if wanted.dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
            torch.testing.assert_close(piece, wanted, **rounded)


def test_every_row_has_a_case() -> None:
    assert {case.op for case in CASES} == set(OPS)


def test_results_have_the_layout_that_is_said_or_that_of_their_operand():
    table, ids = normal(0, 8, 32), on_chips([torch.tensor([[1]])] * 8, ttnn.ROW_MAJOR_LAYOUT)
    (rows,) = executed("to_layout", [table] * 8, layout="row_major")
    (tiles,) = executed("embedding", ids, [table] * 8, layout="tile")
    (squares,) = executed("square", rows)
    assert [x.layout for x in (rows, tiles, squares)] == [
        ttnn.ROW_MAJOR_LAYOUT,
        ttnn.TILE_LAYOUT,
        ttnn.ROW_MAJOR_LAYOUT,
    ]


def test_results_are_rounded_once_to_the_first_operands_dtype():
    a, b = torch.tensor([1.0]).bfloat16(), torch.tensor([2.0**-9])
    assert on_one("add", a, b).dtype == torch.bfloat16
    # In bfloat16 1 + 2^-9 is 1; in float32 it is not, and so three times it rounds up.
    total = on_one("add", a, b, dtype="float32")
    assert total.dtype == torch.float32 and total.item() == 1 + 2**-9
    assert on_one("add", a, b).item() == 1


def test_products_accumulate_in_float32():
    ones = torch.ones(1, 4096).bfloat16()
    assert on_one("experimental.minimal_matmul", ones, ones.T, compute="hifi2").item() == 4096


def test_sums_over_chips_are_rounded_once():
    parts = [torch.full((1,), value).bfloat16() for value in (1.0, 2**-9, 2**-9, 2**-9)]
    (total,) = executed("all_reduce", [*parts, *parts], axis=1)
    assert total.pieces[0].dtype == torch.bfloat16 and total.pieces[0].item() == 1 + 2**-7
