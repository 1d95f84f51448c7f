"""Matrix products. ttnn defines linear and matmul; the fused ones are defined here from their documentation."""

import torch
from torch import Tensor

from tests.ttnn_golden.local import golden_function, local, theirs
from tests.ttnn_golden.types import Attrs, Golden

TILE = 32


def _minimal_matmul(attrs: Attrs, x: Tensor, weight: Tensor, bias_tensor: Tensor | None = None) -> Tensor:
    """x [..., K] @ weight [..., K, N] + bias [..., N], then an activation, or SwiGLU on tile pairs [..., N / 2]."""
    product = x @ weight.reshape(weight.shape[-2:])
    if bias_tensor is not None:
        product = product + bias_tensor.reshape(-1)
    if attrs.get("fuse_swiglu"):
        return _swiglu(product)
    if attrs.get("fused_activation"):
        activated: Tensor = golden_function(attrs["fused_activation"])(product)
        return activated
    return product


def _swiglu(product: Tensor) -> Tensor:
    """silu(gate) * up, where column tile 2 p is the gate's tile p and 2 p + 1 is up's."""
    gate, up = product.unflatten(-1, (-1, 2, TILE)).unbind(-2)
    return (torch.nn.functional.silu(gate) * up).flatten(-2)


def _matmul_addcmul(
    attrs: Attrs, x: Tensor, weight: Tensor, base: Tensor, factor: Tensor, bias_tensor: Tensor | None = None
) -> Tensor:
    """base + scalar * (x @ weight + bias) * factor."""
    return base + attrs["scalar"] * _minimal_matmul({}, x, weight, bias_tensor) * factor


MATMUL: dict[str, Golden] = {
    "experimental.dit_minimal_matmul_addcmul_fused": local(_matmul_addcmul, "scalar"),
    "experimental.minimal_matmul": local(_minimal_matmul, "fuse_swiglu fused_activation"),
    "linear": theirs("linear", named="transpose_a transpose_b activation"),
    "matmul": theirs("matmul", named="transpose_a transpose_b"),
}
