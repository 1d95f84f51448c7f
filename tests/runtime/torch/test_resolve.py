"""Instructions become callables when a program is loaded, or an error says which one cannot."""

import pytest
import torch

from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.resolve import resolve
from tests.runtime.torch.attention_by_rows import mask_of, operands
from tests.runtime.torch.programs import instruction, normal


def test_an_unknown_op() -> None:
    with pytest.raises(BackendError, match=r"^program 'p': the torch backend has no op 'os_system'; compile"):
        resolve(instruction("os_system", [0], [1], []), Mesh(1, 1), "program 'p'")


@pytest.mark.parametrize("op", ["reshape", "shard"])
def test_missing_attributes(op: str) -> None:
    with pytest.raises(BackendError, match=f"^here: attributes {{'color': 3}} are not those of {op}: KeyError"):
        resolve(instruction(op, [0], [1], [], color=3), Mesh(1, 2), "here")


def test_an_axis_that_is_not_there() -> None:
    with pytest.raises(BackendError, match="not those of all_reduce: IndexError"):
        resolve(instruction("all_reduce", [0], [1], [], axis=2), Mesh(1, 2), "here")


def test_a_dtype_that_is_not_there() -> None:
    with pytest.raises(BackendError, match="not those of cast: KeyError"):
        resolve(instruction("cast", [0], [1], [], dtype="float8"), Mesh(1, 1), "here")


def test_a_kernel_runs_on_bare_tensors_or_on_each_device() -> None:
    add, (a, b) = instruction("add", [0, 1], [2], []), (normal(0, 3), normal(1, 3))
    assert torch.equal(resolve(add, Mesh(1, 1), "")(a, b), a + b)
    first, second = resolve(add, Mesh(1, 2), "")([a, a], [a, b])
    assert torch.equal(first, a + a)
    assert torch.equal(second, a + b)


def test_two_results() -> None:
    tensors, mask = operands(3, 2), mask_of(2, [0], [0])
    joint = instruction("joint_attention", list(range(7)), [7, 8], [], scale=1.0)
    out, out_text = resolve(joint, Mesh(1, 1), "")(*tensors, mask)
    outs, outs_text = resolve(joint, Mesh(1, 2), "")(*([x, x] for x in [*tensors, mask]))
    assert torch.equal(outs[1], out)
    assert torch.equal(outs_text[1], out_text)
    attrs = {"axis": 1, "size": 3, "chunk": 3, "scale": 1.0}
    ring = instruction("ring_joint_attention", list(range(7)), [7, 8], [], **attrs)
    ring_out, ring_text = resolve(ring, Mesh(1, 1), "")(*tensors, mask)
    torch.testing.assert_close(ring_out, out, rtol=0, atol=1e-5)
    torch.testing.assert_close(ring_text, out_text, rtol=0, atol=1e-5)


def test_a_collective_on_one_device() -> None:
    x = normal(0, 3)
    assert torch.equal(resolve(instruction("all_reduce", [0], [1], [], axis=1), Mesh(1, 1), "")(x), x)
    stats = resolve(instruction("group_norm_stats", [0], [1], [], groups=1, valid=[]), Mesh(1, 1), "")
    assert stats(normal(0, 1, 2, 3, 3, 4)).shape == (1, 1, 1, 2, 1, 3)
