"""Instructions become callables when a program is loaded."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.resolve import resolve
from tests.runtime.torch.attention_by_rows import mask_of, operands
from tests.runtime.torch.programs import instruction, normal


def test_an_unknown_op() -> None:
    assert resolve(instruction("os_system", [0], [1], []), Mesh(1, 1)) is None


@pytest.mark.parametrize(
    ("op", "attrs", "error"),
    [
        ("reshape", {"color": 3}, KeyError),
        ("shard", {"color": 3}, KeyError),
        ("all_reduce", {"axis": 2}, IndexError),
        ("cast", {"dtype": "float7"}, KeyError),
    ],
)
def test_attributes_that_are_not_those_of_the_op(op: str, attrs: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve(instruction(op, [0], [1], [], **attrs), Mesh(1, 2))


def resolved(op: str, operands: int, results: int, mesh: Mesh, **attrs: object) -> Callable[..., Any]:
    values = list(range(operands + results))
    call = resolve(instruction(op, values[:operands], values[operands:], [], **attrs), mesh)
    assert call is not None
    return call


def test_a_kernel_runs_on_bare_tensors_or_on_each_device() -> None:
    a, b = normal(0, 3), normal(1, 3)
    assert torch.equal(resolved("add", 2, 1, Mesh(1, 1))(a, b), a + b)
    first, second = resolved("add", 2, 1, Mesh(1, 2))([a, a], [a, b])
    assert torch.equal(first, a + a)
    assert torch.equal(second, a + b)


def test_two_results() -> None:
    tensors, mask = operands(3, 2), mask_of(2, [0], [0])
    out, out_text = resolved("joint_attention", 7, 2, Mesh(1, 1), scale=1.0)(*tensors, mask)
    on_two = resolved("joint_attention", 7, 2, Mesh(1, 2), scale=1.0)
    outs, outs_text = on_two(*([x, x] for x in [*tensors, mask]))
    assert torch.equal(outs[1], out)
    assert torch.equal(outs_text[1], out_text)
    ring = resolved("ring_joint_attention", 7, 2, Mesh(1, 1), axis=1, size=3, chunk=3, scale=1.0)
    ring_out, ring_text = ring(*tensors, mask)
    torch.testing.assert_close(ring_out, out, rtol=0, atol=1e-5)
    torch.testing.assert_close(ring_text, out_text, rtol=0, atol=1e-5)


def test_a_collective_on_one_device() -> None:
    x = normal(0, 3)
    assert torch.equal(resolved("all_reduce", 1, 1, Mesh(1, 1), axis=1)(x), x)
    stats = resolved("group_norm_stats", 1, 1, Mesh(1, 1), groups=1, valid=[])
    assert stats(normal(0, 1, 2, 3, 3, 4)).shape == (1, 1, 1, 2, 1, 3)
