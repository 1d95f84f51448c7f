"""Every op of the table on a mock mesh: ttnn accepts the call, and its results have these shapes and dtypes."""

from typing import Any

import numpy as np
import pytest

from mochi_aot.artifacts.schema import Attr, TensorSpec
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops import OPS
from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.placement import describe
from tests.ring_attrs import RING, ring_attrs
from tests.runtime.ttnn.on_mesh import backend, spec

X, ROW = spec([1, 64, 128]), spec([1, 1, 128])
F = spec([1, 64, 128], "float32")
WEIGHT, BLOCKS, BIAS = spec([128, 256]), spec([128, 256], "bfloat8_b"), spec([1, 256])
HEADS, TEXT, LENGTH = spec([1, 4, 64, 128]), spec([1, 4, 256, 128]), spec([1], "uint32", "row_major")
IDS, TABLE = spec([1, 32], "uint32", "row_major"), spec([64, 128], "bfloat16", "row_major")
VIDEO = spec([1, 4, 6, 6, 64], "bfloat16", "row_major")

SAME = "bfloat16[1, 64, 128] tile"
UNARY = ("silu", "tanh", "sin", "cos", "rsqrt", "square", "round")
BINARY = ("add", "subtract", "multiply", "divide")

Case = tuple[str, list[TensorSpec], dict[str, Attr], str]

CASES: list[Case] = [
    *((op, [X], {}, SAME) for op in UNARY),
    *((op, [X, ROW], {"dtype": "float32"}, "float32[1, 64, 128] tile") for op in BINARY),
    *((op, [F], {"value": 2.0}, "float32[1, 64, 128] tile") for op in ("add", "multiply")),
    ("divide", [F, F], {}, "float32[1, 64, 128] tile"),
    ("eq", [X, X], {}, SAME),
    ("clamp", [X], {"min": -1.0, "max": 1.0}, SAME),
    ("clamp", [X], {"min": -1.0, "max": None}, SAME),
    ("clamp", [X], {"min": None, "max": 1.0}, SAME),
    ("addcmul", [X, X, ROW], {"value": 2.0}, SAME),
    ("typecast", [F], {"dtype": "uint8"}, "uint8[1, 64, 128] tile"),
    ("reshape", [X], {"shape": [128, 64]}, "bfloat16[128, 64] tile"),
    ("permute", [X], {"dims": [2, 0, 1]}, "bfloat16[128, 1, 64] tile"),
    ("slice", [X], {"slice_start": [0, 32, 0], "slice_end": [1, 64, 100]}, "bfloat16[1, 32, 100] tile"),
    ("pad", [X], {"padding": [[0, 0], [0, 7], [0, 0]], "value": 0.0}, "bfloat16[1, 71, 128] tile"),
    ("concat", [X, X, X], {"dim": 1}, "bfloat16[1, 192, 128] tile"),
    ("repeat", [X], {"repeat_dims": [2, 1, 1]}, "bfloat16[2, 64, 128] tile"),
    ("to_layout", [X], {"layout": "row_major"}, "bfloat16[1, 64, 128] row_major"),
    ("embedding", [IDS, TABLE], {"layout": "tile"}, "bfloat16[1, 32, 128] tile"),
    ("matmul", [X, WEIGHT], {"compute": "hifi4"}, "bfloat16[1, 64, 256] tile"),
    (
        "experimental.minimal_matmul",
        [X, BLOCKS, BIAS],
        {"kw": ["bias_tensor"], "compute": "hifi2"},
        "bfloat16[1, 64, 256] tile",
    ),
    ("experimental.minimal_matmul", [X, WEIGHT], {"fuse_swiglu": True, "compute": "hifi2"}, SAME),
    ("rms_norm", [X, ROW], {"kw": ["weight"], "epsilon": 1e-6, "compute": "hifi4"}, SAME),
    ("softmax", [X], {"dim": -1, "compute": "hifi4"}, SAME),
    ("sum", [X], {"dim": [1], "keepdim": True}, "bfloat16[1, 1, 128] tile"),
    ("mean", [X], {"dim": [2], "keepdim": True, "compute": "hifi4"}, "bfloat16[1, 64, 1] tile"),
    ("var", [X], {"dim": 1, "keepdim": True, "correction": False, "compute": "hifi4"}, "bfloat16[1, 1, 128] tile"),
    ("multiply", [X, ROW], {"activations": ["silu"]}, SAME),
    (
        "experimental.conv3d",
        [VIDEO, spec([27 * 64, 32]), spec([1, 32])],
        {
            "kw": ["bias_tensor"],
            "output_channels": 32,
            "kernel_size": [3, 3, 3],
            "stride": [1, 1, 1],
            "padding": [0, 0, 1],
            "padding_mode": "replicate",
            "c_in_block": 32,
            "program_config": [32, 1, 2, 4],
            "compute": "hifi2",
        },
        "bfloat16[1, 2, 4, 6, 32] row_major",
    ),
    (
        "experimental.neighbor_pad_async",
        [VIDEO],
        {"dim": [2, 3], "padding_left": [1, 1], "padding_right": [1, 1], "axis": [0, 1], "padding_mode": "replicate"},
        "bfloat16[1, 4, 8, 8, 64] row_major",
    ),
    (
        "experimental.all_to_all_async_generic",
        [X],
        {"in_dim": 1, "out_dim": 2, "axis": 0},
        "bfloat16[1, 256, 32] tile",
    ),
    ("all_gather", [X], {"dim": 1, "axis": 1}, "bfloat16[1, 512, 128] tile"),
    ("all_reduce", [X], {"axis": 0}, SAME),
    ("reduce_scatter", [X], {"dim": 2, "axis": 0}, "bfloat16[1, 64, 32] tile"),
    ("mesh_partition", [X], {"dim": 2, "axis": 0}, "bfloat16[1, 64, 32] tile"),
    (
        "transformer.scaled_dot_product_attention",
        [HEADS, HEADS, HEADS, spec([1, 1, 64, 64])],
        {"kw": ["attn_mask"], "is_causal": False, "scale": 0.1, "compute": "hifi2_bf16acc", "program_config": [32, 32]},
        "bfloat16[1, 4, 64, 128] tile",
    ),
    (
        "transformer.split_query_key_value_and_split_heads",
        [spec([1, 64, 384])],
        {"num_heads": 2, "transpose_key": False},
        "bfloat16[1, 2, 64, 64] tile, bfloat16[1, 2, 64, 64] tile, bfloat16[1, 2, 64, 64] tile",
    ),
    ("transformer.concatenate_heads", [HEADS], {}, "bfloat16[1, 64, 512] tile"),
    (
        "experimental.rotary_embedding_llama",
        [HEADS, HEADS, HEADS, spec([1, 1, 32, 32])],
        {"is_decode_mode": False, "compute": "hifi4"},
        "bfloat16[1, 4, 64, 128] tile",
    ),
    (
        RING,
        [HEADS, HEADS, HEADS, TEXT, TEXT, TEXT, LENGTH],
        ring_attrs([1, 4, 512, 128], [1, 4, 2048, 128], 500, text_size=256),
        "bfloat16[1, 4, 64, 128] tile, bfloat16[1, 4, 256, 128] tile",
    ),
]


@pytest.mark.mesh
@pytest.mark.parametrize(("op", "operands", "attrs", "expected"), CASES, ids=[case[0] for case in CASES])
def test_ttnn_accepts(op: str, operands: list[TensorSpec], attrs: dict[str, Attr], expected: str) -> None:
    mesh = backend()
    tensors = [mesh.upload(np.zeros(operand.shape, np.uint8), operand) for operand in operands]
    outcome = OPS[op](attrs, Context(mesh.mesh))(*tensors)
    results = outcome if isinstance(outcome, list | tuple) else [outcome]
    assert ", ".join(describe(result) for result in results) == expected


def test_every_op_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(OPS)


def spy(*tensors: Any, **passed: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tensors, passed


@pytest.mark.mesh
def test_how_operands_and_attributes_are_passed() -> None:
    builder = calls(
        spy, "axis dtype eps", values="value", tensors="bias", config=("config", lambda sizes, _: sum(sizes))
    )
    context = Context(backend().mesh)
    call = builder({"value": 3, "axis": 1, "eps": 0.5, "program_config": [1, 2], "kw": ["bias"]}, context)
    assert call("a", "b", "c") == (("a", "b", 3), {"bias": "c", "cluster_axis": 1, "eps": 0.5, "config": 3})
    assert builder({"value": 3, "dtype": "uint32"}, context)("a")[1]["dtype"].name == "UINT32"


@pytest.mark.mesh
@pytest.mark.parametrize(
    ("attrs", "error"),
    [
        ({}, "'value'"),
        ({"value": 1, "beta": 2}, r"attributes \['beta'\], expected only \['dtype', 'kw', 'value'\]"),
        ({"value": 1, "program_config": [1]}, r"attributes \['program_config'\], expected only"),
        ({"value": 1, "kw": ["weight"]}, r"operands \['weight'\], expected only \['bias'\]"),
        ({"value": 1, "dtype": "float16"}, "'float16'"),
    ],
)
def test_attributes_that_are_not_in_the_table(attrs: dict[str, Attr], error: str) -> None:
    builder = calls(spy, "dtype", values="value", tensors="bias")
    with pytest.raises((KeyError, ValueError), match=error):
        builder(attrs, Context(backend().mesh))


@pytest.mark.mesh
def test_compute_configs() -> None:
    context = Context(backend().mesh)
    seen = {
        name: (config.math_fidelity.name, config.fp32_dest_acc_en, config.packer_l1_acc, config.math_approx_mode)
        for name in ("hifi2", "hifi4", "hifi2_bf16acc")
        for config in (context.compute(name),)
    }
    assert seen == {
        "hifi2": ("HiFi2", True, True, False),
        "hifi4": ("HiFi4", True, True, False),
        "hifi2_bf16acc": ("HiFi2", False, False, False),
    }


@pytest.mark.mesh
def test_uses_take_turns_each_for_itself() -> None:
    context = Context(backend().mesh)
    assert [context.turn(use) for use in "aaabab"] == [0, 1, 0, 0, 1, 1]


@pytest.mark.mesh
def test_a_buffer_is_made_once_for_each_use_shape_and_dtype() -> None:
    context = Context(backend().mesh)
    first = context.buffer("a", [1, 1, 32, 32], "bfloat16")
    assert context.buffer("a", [1, 1, 32, 32], "bfloat16") is first
    others = [("b", [1, 1, 32, 32], "bfloat16"), ("a", [1, 1, 64, 32], "bfloat16"), ("a", [1, 1, 32, 32], "bfloat8_b")]
    addresses = {context.buffer(*other).buffer_address() for other in others} | {first.buffer_address()}
    assert len(addresses) == 4
