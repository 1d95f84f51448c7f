import pytest
import torch

from mochi_aot.runtime.torch.mesh import Mesh
from tests.ttnn_golden.chips import golden, normal, on_one
from tests.ttnn_golden.local import by_keyword, local
from tests.ttnn_golden.ops import GOLDEN
from tests.ttnn_golden.types import GoldenError


def test_every_op_of_the_runtime_has_a_golden_definition():
    ops = pytest.importorskip("mochi_aot.runtime.ttnn.ops")
    assert set(ops.OPS) - set(GOLDEN) == set()


def test_results_are_rounded_once_to_the_first_operands_dtype():
    a, b = torch.tensor([1.0]).bfloat16(), torch.tensor([2.0**-9])
    assert on_one("add", a, b).dtype == torch.bfloat16
    # In bfloat16 1 + 2^-9 is 1; in float32 it is not, and so three times it rounds up.
    total = on_one("add", a, b, dtype="float32")
    assert total.dtype == torch.float32 and total.item() == 1 + 2**-9
    assert on_one("add", a, b).item() == 1


def test_a_number_takes_the_place_of_an_operand():
    assert on_one("multiply", torch.tensor([3.0]), value=0.5).item() == 1.5


def test_the_result_of_an_embedding_has_the_tables_dtype():
    table = normal(0, 8, 4, dtype=torch.bfloat16)
    ids = torch.tensor([[3, 1]])
    assert torch.equal(on_one("embedding", ids, table, layout="tile"), table[ids])


def test_trailing_operands_can_be_named():
    assert by_keyword({"kw": ["b", "c"]}, [1, 2, 3]) == ([1], {"b": 2, "c": 3})
    assert by_keyword({}, [1, 2, 3]) == ([1, 2, 3], {})


def test_replicas_are_computed_once():
    calls = []

    def count(attrs, x):
        calls.append(x)
        return x + 1, x + 2

    shared, own = torch.zeros(2), torch.ones(2)
    one, two = local(count)({}, Mesh(1, 3), [shared, own, shared])
    assert len(calls) == 2
    assert one[0] is one[2] and [t[0].item() for t in two] == [2, 3, 2]


def test_an_attribute_without_meaning_is_an_error():
    with pytest.raises(GoldenError, match="speed"):
        golden("add", [torch.ones(1)], [torch.ones(1)], mesh=Mesh(1, 1), speed=2)


def test_a_layer_norm_leaves_its_input_alone():
    x, residual = normal(0, 3, 8), normal(1, 3, 8)
    before = x.clone()
    normed = on_one("layer_norm", x, residual, kw=["residual_input_tensor"], epsilon=1e-5)
    assert torch.equal(x, before)
    assert torch.allclose(normed, torch.nn.functional.layer_norm(x + residual, (8,), eps=1e-5), atol=1e-6)
