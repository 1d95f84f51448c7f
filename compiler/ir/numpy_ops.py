"""The tables of definitions: for each opcode, what it computes."""

from collections.abc import Callable

import numpy as np

from mochi_aot.compiler.ir import numpy_ops_elementwise as elementwise
from mochi_aot.compiler.ir import numpy_ops_mesh as on_mesh
from mochi_aot.compiler.ir import numpy_ops_nn as nn
from mochi_aot.compiler.ir import numpy_ops_shape as shape
from mochi_aot.compiler.ir import numpy_ops_video as video
from mochi_aot.compiler.ir.numpy_values import Devices

# fn(attrs, *arrays): one device's arrays in, its result or results out.
LOCAL: dict[str, Callable[..., np.ndarray | tuple[np.ndarray, ...]]] = {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "div": elementwise.div,
    "add_scalar": elementwise.add_scalar,
    "mul_scalar": elementwise.mul_scalar,
    "silu": elementwise.silu,
    "gelu_tanh": elementwise.gelu_tanh,
    "tanh": elementwise.tanh,
    "sin": elementwise.sin,
    "cos": elementwise.cos,
    "exp": elementwise.exp,
    "round": elementwise.round,
    "clamp": elementwise.clamp,
    "cast": elementwise.cast,
    "where_scalar": elementwise.where_scalar,
    "annotate": elementwise.annotate,
    "reshape": shape.reshape,
    "permute": shape.permute,
    "slice": shape.slice,
    "concat": shape.concat,
    "expand": shape.expand,
    "select": shape.select,
    "embedding": shape.embedding,
    "sum": shape.sum,
    "mean": shape.mean,
    "softmax": nn.softmax,
    "linear": nn.linear,
    "linear_float8": nn.linear_float8,
    "matmul": nn.matmul,
    "rms_norm": nn.rms_norm,
    "rope": nn.rope,
    "attention": nn.attention,
    "joint_attention": nn.joint_attention,
    "causal_conv3d": video.causal_conv3d,
    "group_norm": video.group_norm,
    "group_norm_apply": video.group_norm_apply,
}

# fn(mesh, attrs, fill, *operands): all devices' arrays in, a tuple of all devices' results out; `fill` is for padding.
ON_MESH: dict[str, Callable[..., tuple[Devices, ...]]] = {
    "shard": on_mesh.shard,
    "all_gather": on_mesh.all_gather,
    "all_reduce": on_mesh.all_reduce,
    "reduce_scatter": on_mesh.reduce_scatter,
    "all_to_all": on_mesh.all_to_all,
    "halo_exchange": on_mesh.halo_exchange,
    "ring_joint_attention": on_mesh.ring_joint_attention,
    "group_norm_stats": on_mesh.group_norm_stats,
    "count_nonfinite": on_mesh.count_nonfinite,
}

# These only move elements: what they read was rounded to bfloat16 already.
MOVES = frozenset(
    {
        "all_gather",
        "all_to_all",
        "annotate",
        "concat",
        "embedding",
        "expand",
        "halo_exchange",
        "permute",
        "reshape",
        "select",
        "shard",
        "slice",
    }
)
