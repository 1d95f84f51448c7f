"""Faults of the runtime's tables, as mistakes in their source, and a program that each of them spoils."""

from tests.ttnn_golden.mutation import Mutation

ROUNDED_LINKS = "denoise, links in bfloat8_b"  # not a role: the same program with some sums made by reduce_scatter
Fault = tuple[str, Mutation]


def _fault(role: str, module: str, old: str, new: str) -> Fault:
    return role, Mutation(module, old, new)


def _instead(role: str, module: str, function: str, new: str) -> Fault:
    """Another callable in the place of a ttnn function, whose path is in the module's source once."""
    return _fault(role, f"ops.{module}", f"ttnn.{function}", f"({new})")


# Found by what a program computes, or by its dtype, layout or shape.
WRONG: dict[str, Fault] = {
    "tanh is sigmoid": _instead("encode_text", "plain", "tanh", "ttnn.sigmoid"),
    "silu is sigmoid": _instead("prepare_steps", "plain", "silu", "ttnn.sigmoid"),
    "sine is cosine": _instead("prepare_steps", "plain", "sin", "ttnn.cos"),
    "rsqrt is sqrt": _instead("decode", "plain", "rsqrt", "ttnn.sqrt"),
    "subtract is add": _instead("prepare_steps", "plain", "subtract", "ttnn.add"),
    "divide is multiply": _instead("prepare_prompt", "plain", "divide", "ttnn.multiply"),
    "operands of subtract": _instead(
        "decode", "plain", "subtract", "lambda a, b, **named: ttnn.subtract(b, a, **named)"
    ),
    "operands of addcmul": _instead(
        "denoise", "plain", "addcmul", "lambda a, b, c, value: ttnn.addcmul(b, a, c, value=value)"
    ),
    "bounds of clamp": _instead(
        "prepare_prompt", "plain", "clamp", "lambda x, min, max: ttnn.clamp(x, min=max, max=min)"
    ),
    "dtype of divide": _instead(
        "prepare_prompt", "plain", "divide", "lambda a, b, dtype: ttnn.divide(a, b, dtype=ttnn.bfloat16)"
    ),
    "bounds of slice": _instead(
        "denoise",
        "plain",
        "slice",
        "lambda x, slice_start, slice_end: ttnn.slice(x, slice_start=[0] * len(slice_start), "
        "slice_end=[stop - start for start, stop in zip(slice_start, slice_end)])",
    ),
    "order of concat": _fault("decode", "ops.plain", "list(tensors)", "list(tensors)[::-1]"),
    "dim of concat": _fault("decode", "ops.plain", "(list(tensors), **passed)", "(list(tensors), dim=0)"),
    "dims of permute": _instead(
        "decode", "plain", "permute", "lambda x, dims: ttnn.permute(x, dims=[dims.index(i) for i in range(len(dims))])"
    ),
    "side of pad": _instead(
        "denoise",
        "plain",
        "pad",
        "lambda x, padding, value: ttnn.pad(x, padding=[sides[::-1] for sides in padding], value=value)",
    ),
    "layout of embedding": _instead(
        "encode_text", "plain", "embedding", "lambda ids, table, layout: ttnn.embedding(ids, table)"
    ),
    "bias of a product": _instead(
        "prepare_steps",
        "plain",
        "experimental.minimal_matmul",
        "lambda a, b, bias_tensor=None, **named: ttnn.experimental.minimal_matmul(a, b, **named)",
    ),
    "SwiGLU": _instead(
        "denoise",
        "plain",
        "experimental.minimal_matmul",
        "lambda *tensors, fuse_swiglu=False, **named: ttnn.experimental.minimal_matmul(*tensors, **named)",
    ),
    "weight of a norm": _instead(
        "encode_text", "plain", "rms_norm", "lambda x, weight=None, **named: ttnn.rms_norm(x, **named)"
    ),
    "dim of softmax": _instead(
        "prepare_prompt", "plain", "softmax", "lambda x, dim, **named: ttnn.softmax(x, dim=dim - 1, **named)"
    ),
    "mean is sum": _instead("decode", "plain", "mean", "ttnn.sum"),
    "correction of var": _instead("decode", "plain", "var", "lambda x, correction, **named: ttnn.var(x, **named)"),
    "axis of all_gather": _instead(
        "denoise",
        "plain",
        "all_gather",
        "lambda x, dim, cluster_axis: ttnn.all_gather(x, dim=dim, cluster_axis=1 - cluster_axis)",
    ),
    "axis of all_reduce": _instead(
        "encode_text",
        "plain",
        "all_reduce",
        "lambda x, cluster_axis: ttnn.all_reduce(x, cluster_axis=1 - cluster_axis)",
    ),
    "reduce_scatter without a sum": _instead(ROUNDED_LINKS, "plain", "reduce_scatter", "ttnn.mesh_partition"),
    "mesh_partition with a sum": _instead("denoise", "plain", "mesh_partition", "ttnn.reduce_scatter"),
    "causal attention": _instead(
        "encode_text",
        "attention",
        "transformer.scaled_dot_product_attention",
        "lambda *tensors, is_causal, **named: ttnn.transformer.scaled_dot_product_attention(*tensors, **named)",
    ),
    "scale of attention": _instead(
        "encode_text",
        "attention",
        "transformer.scaled_dot_product_attention",
        "lambda *tensors, scale, **named: ttnn.transformer.scaled_dot_product_attention(*tensors, **named)",
    ),
    "keys transposed": _instead(
        "denoise",
        "attention",
        "transformer.split_query_key_value_and_split_heads",
        "lambda x, transpose_key, **named: ttnn.transformer.split_query_key_value_and_split_heads(x, **named)",
    ),
    "sines for cosines": _instead(
        "denoise",
        "attention",
        "experimental.rotary_embedding_llama",
        "lambda x, cos, sin, pairs, **named: ttnn.experimental.rotary_embedding_llama(x, sin, cos, pairs, **named)",
    ),
    "keys for values": _fault("denoise", "ops.attention", "*tensors[:6]", "*(tensors[i] for i in (0, 2, 1, 3, 4, 5))"),
    "the text's keys for its values": _fault(
        "denoise", "ops.attention", "*tensors[:6]", "*(tensors[i] for i in (0, 1, 2, 3, 5, 4))"
    ),
    "padding is attended to": _fault("denoise", "ops.attention", 'attrs["size"]', 'attrs["buffer"][2]'),
    "dtype of a convolution": _fault("decode", "ops.video", '"dtype": ttnn.bfloat16', '"dtype": ttnn.float32'),
    "border of a convolution": _fault(
        "decode", "ops.video", '"padding", "padding_mode")}', '"padding", "padding_mode")} | {"padding_mode": "zeros"}'
    ),
    "blocks of channels": _fault("decode", "ops.video", 'C_in_block=attrs["c_in_block"]', "C_in_block=16"),
    "axis of borders": _fault(
        "decode", "ops.video", '"cluster_axis": axes', '"cluster_axis": [1 - axis for axis in axes]'
    ),
    "sides of borders": _fault(
        "decode",
        "ops.video",
        '"padding_left", "padding_right", "padding_mode")}',
        '"padding_mode")} | dict(padding_left=attrs["padding_right"], padding_right=attrs["padding_left"])',
    ),
    "activation after a product": _fault(
        "decode", "ops.call", "getattr(ttnn.UnaryOpType, one.upper())", "ttnn.UnaryOpType.RELU"
    ),
    "name of a dtype": _fault(
        "prepare_steps", "context", "getattr(ttnn, name)", 'getattr(ttnn, name.replace("float32", "bfloat16"))'
    ),
}

# Found because a definition refuses the call, as it would one that it does not know.
REFUSED: dict[str, Fault] = {
    "operands of matmul": _instead("decode", "plain", "matmul", "lambda a, b, **named: ttnn.matmul(b, a, **named)"),
    "names of operands": _fault("denoise", "ops.call", "zip(names, tensors[-count:]", "zip(names, tensors[:count]"),
    "scale of the ring": _fault("denoise", "ops.attention", '"scale": attrs["scale"],', ""),
    "epsilon of a norm": _instead(
        "denoise", "plain", "rms_norm", "lambda *x, epsilon, **named: ttnn.rms_norm(*x, **named)"
    ),
    "fidelity of a product": _instead(
        "denoise",
        "plain",
        "experimental.minimal_matmul",
        "lambda *x, compute_kernel_config, **named: ttnn.experimental.minimal_matmul(*x, **named)",
    ),
    "a number that is not passed": _fault(
        "encode_text", "ops.call", "function(*tensors, *positional, **passed)", "function(*tensors, **passed)"
    ),
    "name of an attribute": _fault("denoise", "ops.call", '"axis": "cluster_axis"', '"axis": "axis"'),
    "mode of RoPE": _instead(
        "denoise",
        "attention",
        "experimental.rotary_embedding_llama",
        "lambda *x, is_decode_mode, **named: ttnn.experimental.rotary_embedding_llama(*x, **named)",
    ),
    "axis of the ring": _fault(
        "denoise", "ops.attention", '"cluster_axis": attrs["axis"]', '"cluster_axis": 1 - attrs["axis"]'
    ),
    "a ring of chips that is none": _fault("denoise", "ops.attention", "ttnn.Topology.Linear", "ttnn.Topology.Ring"),
    "borders around a ring": _fault("decode", "ops.video", "ttnn.Topology.Linear", "ttnn.Topology.Ring"),
    "sums of attention": _fault(
        "denoise", "ops.attention", 'context.compute(attrs["compute"])', 'context.compute("hifi2")'
    ),
    "cores that send": _fault("denoise", "ops.attention", "ttnn.CoreCoord(x, y - 1)", "ttnn.CoreCoord(x, y)"),
    "dtype of a buffer": _fault(
        "denoise", "context", "DTYPES[dtype], ttnn.TILE_LAYOUT", "ttnn.float32, ttnn.TILE_LAYOUT"
    ),
}
