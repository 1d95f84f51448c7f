"""Matrix products. ttnn defines matmul; the fused one is defined here from its documentation."""

import torch
from torch import Tensor

from mochi_aot.tools.golden.local import local, theirs
from mochi_aot.tools.golden.types import Definition

TILE = 32


def _minimal_matmul(x: Tensor, weight: Tensor, bias_tensor: Tensor | None = None, fuse_swiglu: bool = False) -> Tensor:
    """x [..., K] @ weight [..., K, N] + bias [..., N], or SwiGLU of that on tile pairs [..., N / 2]."""
    product = x @ weight.reshape(weight.shape[-2:])
    if bias_tensor is not None:
        product = product + bias_tensor.reshape(-1)
    return _swiglu(product) if fuse_swiglu else product


def _swiglu(product: Tensor) -> Tensor:
    """silu(gate) * up, where column tile 2 p is the gate's tile p and 2 p + 1 is up's."""
    gate, up = product.unflatten(-1, (-1, 2, TILE)).unbind(-2)
    return (torch.nn.functional.silu(gate) * up).flatten(-2)


THEIRS: dict[str, Definition] = {"matmul": theirs("matmul", required="compute_kernel_config")}
OURS: dict[str, Definition] = {
    "experimental.minimal_matmul": local(_minimal_matmul, "bias_tensor fuse_swiglu", required="compute_kernel_config"),
}
