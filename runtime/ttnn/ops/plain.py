"""The rows of the table that are one call of a ttnn function, with attributes that `calls` decodes."""

from functools import partial

import ttnn

from mochi_aot.runtime.executor import Call
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.call import Attrs, Builder, calls

_REDUCTION = "dim keepdim compute"


def _with_tensor_or_number(function: Call, attributes: str) -> Builder:
    """Build a call whose second operand may be a number instead, the attribute `value`."""
    with_tensor, with_number = calls(function, attributes), calls(function, values="value")
    return lambda attrs, context: (with_number if "value" in attrs else with_tensor)(attrs, context)


def _concat(attrs: Attrs, context: Context) -> Call:
    return calls(lambda *tensors, **passed: ttnn.concat(list(tensors), **passed), "dim")(attrs, context)


# Tensors broadcast as in numpy.
_ELEMENTWISE: dict[str, Builder] = {
    "add": _with_tensor_or_number(ttnn.add, "dtype"),
    "subtract": calls(ttnn.subtract, "dtype"),
    "multiply": _with_tensor_or_number(ttnn.multiply, "activations dtype"),
    "divide": calls(ttnn.divide, "dtype"),
    "eq": _with_tensor_or_number(ttnn.eq, ""),
    "silu": calls(ttnn.silu),
    "tanh": calls(ttnn.tanh),
    "sin": calls(ttnn.sin),
    "cos": calls(ttnn.cos),
    "rsqrt": calls(ttnn.rsqrt),
    "square": calls(ttnn.square),
    "round": calls(ttnn.round),
    "clamp": calls(ttnn.clamp, "min max"),
    "addcmul": calls(ttnn.addcmul, "value"),
    "typecast": calls(ttnn.typecast, "dtype"),
}

# What moves or chooses elements, or changes how a device stores them. Results may share their operand's buffer.
_SHAPE: dict[str, Builder] = {
    "reshape": calls(ttnn.reshape, "shape"),
    "permute": calls(ttnn.permute, "dims"),
    "slice": calls(ttnn.slice, "slice_start slice_end"),
    "pad": calls(ttnn.pad, "padding value"),
    "concat": _concat,
    "repeat": calls(ttnn.repeat, "repeat_dims"),
    "to_layout": calls(ttnn.to_layout, "layout"),
    "embedding": calls(ttnn.embedding, "layout"),
}

# Matrix products, whose weights are [in, out]; normalisations, and the reductions that they are made of.
_PRODUCTS_AND_SUMS: dict[str, Builder] = {
    "matmul": calls(ttnn.matmul, "compute"),
    "experimental.minimal_matmul": calls(
        ttnn.experimental.minimal_matmul, "fuse_swiglu compute", tensors="bias_tensor"
    ),
    "rms_norm": calls(ttnn.rms_norm, "epsilon compute", tensors="weight"),
    "softmax": calls(ttnn.softmax, "dim compute"),
    "sum": calls(ttnn.sum, _REDUCTION),
    "mean": calls(ttnn.mean, _REDUCTION),
    "var": calls(ttnn.var, f"{_REDUCTION} correction"),
}


def _all_to_all(attrs: Attrs, context: Context) -> Call:
    """Build a call that gathers `in_dim` and cuts `out_dim`; by default ttnn takes the mesh for a ring."""
    topology = {"topology": ttnn.Topology.Linear, "num_links": ttnn.get_num_links(context.mesh, attrs["axis"])}
    function = partial(ttnn.experimental.all_to_all_async_generic, **topology)
    return calls(function, "in_dim out_dim axis")(attrs, context)


# Along one mesh axis: `axis` 0 runs over the rows, 1 over the columns.
_COLLECTIVES: dict[str, Builder] = {
    "all_gather": calls(ttnn.all_gather, "dim axis"),
    "all_reduce": calls(ttnn.all_reduce, "axis"),
    "experimental.all_to_all_async_generic": _all_to_all,
    "reduce_scatter": calls(ttnn.reduce_scatter, "dim axis"),
    "mesh_partition": calls(ttnn.mesh_partition, "dim axis"),
}

PLAIN: dict[str, Builder] = {**_ELEMENTWISE, **_SHAPE, **_PRODUCTS_AND_SUMS, **_COLLECTIVES}
