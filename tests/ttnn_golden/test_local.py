import re
from pathlib import Path

import pytest
import torch
import ttnn

from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.tools.golden.definitions import OURS, THEIRS
from mochi_aot.tools.golden.local import local
from mochi_aot.tools.golden.stand_in import operation, stand_in
from mochi_aot.tools.golden.types import ChipMesh, GoldenError
from tests.ttnn_golden.chips import ONE, normal, on_chips

X = on_chips([normal(0, 4, 8)])


def test_definitions_of_ours_are_of_what_ttnn_does_not_define():
    """But for the ring, whose definition does not know of shares, and takes a length of zero for all of the text."""
    assert set(OURS).isdisjoint(THEIRS)
    defined = {path for path in OURS if operation(path).golden_function is not None}
    assert defined <= {"transformer.ring_joint_scaled_dot_product_attention", "allocate_tensor_on_device"}


@pytest.mark.parametrize(("heading", "table"), [("Defined by ttnn", THEIRS), ("Defined here", OURS)])
def test_the_documentation_lists_all_definitions(heading, table):
    page = Path(__file__).parents[2].joinpath("docs/verification.md").read_text()
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    listed = re.findall(r"`([^`]+)`", "".join(row.split("|")[1] for row in rows)) or re.findall(
        r"`([^`]+)`", "".join(rows)
    )
    assert sorted(listed) == sorted(table)


def test_replicas_are_computed_once():
    calls = []

    def count(x):
        calls.append(x)
        return x + 1, x + 2

    shared, own = torch.zeros(2), torch.ones(2)
    first, second = local(count)(ChipMesh(Mesh(1, 3)), on_chips([shared, own, shared]))
    assert len(calls) == 2
    assert first.pieces[0] is first.pieces[2] and [t[0].item() for t in second.pieces] == [2, 3, 2]


def test_tensors_are_passed_as_they_were_given_by_position_and_by_name():
    def combined(a, number, scale, b):
        return a * number + scale * b

    definition = local(combined, "b", required="scale")
    result = definition(ChipMesh(ONE), X, 2.0, scale=3.0, b=X)
    torch.testing.assert_close(result.pieces[0], 5 * X.pieces[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ttnn.cosh(X), r"^ttnn.cosh has no definition here"),
        (lambda: ttnn.tanh(X, fast_and_approximate_mode=True), r"keywords \['fast_and_approximate_mode'\]"),
        (lambda: ttnn.rms_norm(X, epsilon=1e-5), r"expected \['compute_kernel_config', 'epsilon'\]"),
        (lambda: ttnn.rms_norm(X, epsilon=1e-5, compute_kernel_config="hifi4"), "compute_kernel_config is 'hifi4'"),
        (lambda: ttnn.typecast(X, dtype=ttnn.float32, queue=1), "unexpected keyword argument 'queue'"),
        (lambda: ttnn.all_gather(X, dim=1), "missing 1 required keyword-only argument: 'cluster_axis'"),
        (lambda: ttnn.add(X, None), "an operand is freed already"),
    ],
)
def test_a_call_that_has_no_definition_is_an_error(call, message):
    with stand_in(ChipMesh(ONE)), pytest.raises(GoldenError, match=message):
        call()


def test_ttnn_is_itself_again_afterwards():
    before = ttnn.create_global_semaphore, type(ttnn.add).__call__
    with stand_in(ChipMesh(ONE)):
        assert torch.equal(ttnn.square(X).pieces[0], X.pieces[0] ** 2)
    assert (ttnn.create_global_semaphore, type(ttnn.add).__call__) == before
