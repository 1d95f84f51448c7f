"""Norms and reductions. ttnn defines all but the distributed group norm, which is its plain one on gathered tokens."""

from typing import Any

import torch
from torch import Tensor

from mochi_aot.runtime.torch.mesh import Mesh
from tests.ttnn_golden.formats import dtype_of, stored, widened
from tests.ttnn_golden.local import by_keyword, golden_function, local, require_known, theirs
from tests.ttnn_golden.types import Attrs, Golden, Value


def _distributed_group_norm(attrs: Attrs, mesh: Mesh, *operands: Value) -> list[Value]:
    """group_norm of [N, 1, tokens, C] whose tokens are spread over the chips of `axis`."""
    require_known(attrs, "num_groups epsilon axis activation")
    (x,), parameters = by_keyword(attrs, operands)
    result = list(x)
    for group in mesh.groups(attrs["axis"]):
        pieces = [x[chip] for chip in group]
        named = {name: widened(value[group[0]]) for name, value in parameters.items()}
        whole = torch.cat([widened(piece) for piece in pieces], dim=2)
        normed = golden_function("group_norm")(whole, num_groups=attrs["num_groups"], epsilon=attrs["epsilon"], **named)
        if attrs.get("activation"):
            normed = golden_function(attrs["activation"])(normed)
        for chip, piece in zip(group, normed.split([piece.shape[2] for piece in pieces], dim=2), strict=True):
            result[chip] = stored(piece, dtype_of(x[chip]))
    return [result]


def _layer_norm(attrs: Attrs, x: Tensor, **named: Tensor) -> Any:
    return golden_function("layer_norm")(
        x.clone(), epsilon=attrs["epsilon"], **named
    )  # it adds the residual to x itself


NORM: dict[str, Golden] = {
    "experimental.dit_fused_distributed_groupnorm": _distributed_group_norm,
    "group_norm": theirs("group_norm", named="num_groups epsilon"),
    "layer_norm": local(_layer_norm, "epsilon"),
    "mean": theirs("mean", named="dim keepdim scalar"),
    "rms_norm": theirs("rms_norm", named="epsilon"),
    "softmax": theirs("softmax", named="dim numeric_stable"),
    "sum": theirs("sum", named="dim keepdim scalar"),
    "var": theirs("var", named="dim keepdim correction"),
}
