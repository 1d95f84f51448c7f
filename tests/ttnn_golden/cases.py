"""For every row of the runtime's table, and every set of attributes that the lowering gives it: a call, and what it
should make by torch, without a look at ttnn."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from mochi_aot.artifacts.schema import Attr
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.tools.golden.types import Value
from tests.ring_attrs import RING, ring_attrs
from tests.ttnn_golden.chips import MESH, ONE, normal, spread

# Op, names of its attributes, and the operands that are passed by keyword.
Signature = tuple[str, frozenset[str], tuple[str, ...]]

SWAP = "experimental.all_to_all_async_generic"
PAD = "experimental.neighbor_pad_async"
MINIMAL = "experimental.minimal_matmul"
SPLIT = "transformer.split_query_key_value_and_split_heads"


@dataclass(frozen=True)
class Case:
    """One instruction. Operands and results have a piece for each chip of `mesh`, results in the dtype they should
    have."""

    op: str
    operands: list[Value]
    results: list[Value]
    attrs: dict[str, Attr] = field(default_factory=dict)
    mesh: Mesh = ONE

    def __str__(self) -> str:
        return f"{self.op}-{'-'.join(self.attrs)}"


def signature(op: str, attrs: dict[str, Attr]) -> Signature:
    """What a case must have in common with an instruction to stand for it."""
    kw = attrs.get("kw", [])
    assert isinstance(kw, list)
    return op, frozenset(attrs), tuple(map(str, kw))


def one(op: str, operands: list[Tensor], *results: Tensor, **attrs: Attr) -> Case:
    """On one chip."""
    return Case(op, [[x] for x in operands], [[x] for x in results], attrs)


X, Y, POSITIVE = normal(0, 4, 64), normal(1, 4, 1), normal(2, 4, 64).abs() + 0.1
HALF = X.bfloat16()  # with a float32 operand, its results are float32 only if that is said

ELEMENTWISE = [
    one("silu", [X], X / (1 + (-X).exp())),
    one("tanh", [X], 1 - 2 / ((2 * X).exp() + 1)),
    one("sin", [X], X.sin()),
    one("cos", [X], X.cos()),
    one("rsqrt", [POSITIVE], POSITIVE**-0.5),
    one("square", [X], X * X),
    one("round", [torch.tensor([[0.4, 0.6, -1.7, 2.5]])], torch.tensor([[0.0, 1.0, -2.0, 2.0]])),
    one("clamp", [X], X.clamp(-0.5, 0.25), min=-0.5, max=0.25),
    one("clamp", [X], X.clamp(min=-0.5), min=-0.5, max=None),
    one("clamp", [X], X.clamp(max=0.25), min=None, max=0.25),
    one("addcmul", [X, X + 1, Y], X + 2 * (X + 1) * Y, value=2.0),
    one("add", [X, Y], X + Y),
    one("add", [HALF, Y], HALF + Y, dtype="float32"),
    one("add", [X], X + 0.5, value=0.5),
    one("subtract", [X, Y], X - Y),
    one("subtract", [HALF, Y], HALF - Y, dtype="float32"),
    one("multiply", [X, Y], X * Y),
    one("multiply", [HALF, Y], HALF * Y, dtype="float32"),
    one("multiply", [X], X * 0.5, value=0.5),
    one("multiply", [HALF, Y], F.silu(HALF * Y), dtype="float32", activations=["silu"]),
    one("multiply", [HALF, Y], HALF * Y, dtype="float32", activations=[]),
    one("divide", [X, POSITIVE], X / POSITIVE),
    one("divide", [HALF, POSITIVE], HALF / POSITIVE, dtype="float32"),
    one("eq", [X, torch.where(X > 0, X, Y)], (X > 0).float()),
    one("eq", [X.sign()], (X > 0).float(), value=1.0),
    one("typecast", [torch.tensor([[0.0, 2.9, 300.0]])], torch.tensor([[0, 2, 300]]), dtype="uint32"),
    one("typecast", [torch.tensor([[0.0, 255.0]])], torch.tensor([[0, 255]], dtype=torch.uint8), dtype="uint8"),
    one("typecast", [X], X.bfloat16(), dtype="bfloat16"),
    one("typecast", [torch.tensor([[7]])], torch.tensor([[7.0]]), dtype="float32"),
    # A unit of 4 beside 300.
    one("typecast", [torch.tensor([[2.9, 300.0]])], torch.tensor([[4.0, 300.0]]).bfloat16(), dtype="bfloat8_b"),
]

CUBE = normal(3, 2, 3, 8)
IDS, TABLE = torch.tensor([[3, 1]]), normal(4, 8, 32, dtype=torch.bfloat16)

SHAPE = [
    one("permute", [CUBE], torch.einsum("abc->cab", CUBE), dims=[2, 0, 1]),
    one("reshape", [CUBE], CUBE.flatten(0, 1), shape=[6, 8]),
    one("slice", [CUBE], CUBE[:, 1:3, 2:5], slice_start=[0, 1, 2], slice_end=[2, 3, 5]),
    one("concat", [CUBE, CUBE + 1], torch.stack([CUBE, CUBE + 1], 1).flatten(1, 2), dim=1),
    one("repeat", [CUBE], torch.cat([CUBE, CUBE], 1), repeat_dims=[1, 2, 1]),
    one("to_layout", [CUBE], CUBE, layout="row_major"),
    one("embedding", [IDS, TABLE], torch.stack([TABLE[3], TABLE[1]])[None], layout="tile"),
    one("pad", [CUBE], F.pad(CUBE, (0, 4, 1, 2), value=7.0), padding=[[0, 0], [1, 2], [0, 4]], value=7.0),
    one("transformer.concatenate_heads", [HEADS := normal(5, 2, 3, 5, 4)], torch.cat(list(HEADS.unbind(1)), -1)),
    one(
        SPLIT,
        [torch.cat([CUBE, CUBE + 1, CUBE + 2], -1)],
        *(torch.stack(list((CUBE + n).chunk(2, -1)), 1) for n in range(3)),
        num_heads=2,
        transpose_key=False,
    ),
]

A, W, B = normal(6, 2, 5, 64), normal(7, 64, 128), normal(8, 1, 128)
PAIRED = torch.cat([W[:, :32], W[:, 64:96], W[:, 32:64], W[:, 96:]], 1)  # column tiles of gate and up in turns
GATED = F.silu(A @ W[:, :64]) * (A @ W[:, 64:])

MATMUL = [
    one("matmul", [A, W], torch.einsum("...k,kn->...n", A, W), compute="hifi4"),
    one(MINIMAL, [A, W], torch.einsum("...k,kn->...n", A, W), compute="hifi2", kw=[]),
    one(MINIMAL, [A, W, B], F.linear(A, W.T, B[0]), compute="hifi2", kw=["bias_tensor"]),
    one(MINIMAL, [A, PAIRED], GATED, compute="hifi2", fuse_swiglu=True),
]

WEIGHT = normal(9, 1, 64)
SCALED = F.rms_norm(A, (64,), eps=0.25)
MEAN = A.sum((1, 2), keepdim=True) / (5 * 64)

NORM = [
    one("rms_norm", [A], SCALED, epsilon=0.25, compute="hifi4"),
    one("rms_norm", [A, WEIGHT], SCALED * WEIGHT, epsilon=0.25, compute="hifi4", kw=["weight"]),
    one("softmax", [A], A.exp() / A.exp().sum(1, keepdim=True), dim=1, compute="hifi4"),
    one("softmax", [A], A.exp() / A.exp().sum(2, keepdim=True), dim=2, compute="hifi4"),
    one("sum", [A], torch.einsum("abc->b", A)[None, :, None], dim=[0, 2], keepdim=True, compute="hifi4"),
    one("mean", [A], torch.einsum("abc->ab", A) / 64, dim=[2], keepdim=False, compute="hifi4"),
    one("mean", [A], MEAN, dim=[1, 2], keepdim=True, compute="hifi4"),
    one(
        "var",
        [A],
        ((A - A.sum(1, keepdim=True) / 5) ** 2).sum(1, keepdim=True) / 5,
        dim=1,
        keepdim=True,
        correction=False,
        compute="hifi4",
    ),
]


def collective(op: str, operand: Value, result: Value, **attrs: Attr) -> Case:
    return Case(op, [operand], [result], attrs, MESH)


WHOLE = normal(10, 4, 8, 8)
PARTS = [normal(seed, 4, 8) for seed in range(MESH.size)]
COLUMN_SUMS = [PARTS[column] + PARTS[4 + column] for column in range(4)]

COLLECTIVES = [
    collective("all_gather", spread(WHOLE, MESH, 0, 1), spread(WHOLE, MESH, rows=0), dim=1, axis=1),
    collective("mesh_partition", spread(WHOLE, MESH, rows=0), spread(WHOLE, MESH, 0, 2), dim=2, axis=1),
    collective("all_reduce", PARTS, COLUMN_SUMS * 2, axis=0),
    collective(SWAP, spread(WHOLE, MESH, 0, 1), spread(WHOLE, MESH, 0, 2), in_dim=1, out_dim=2, axis=1),
    collective(
        "reduce_scatter",
        PARTS,
        [total[:, 4 * row : 4 * row + 4] for row in (0, 1) for total in COLUMN_SUMS],
        dim=1,
        axis=0,
    ),
]

Q, K, V, MASK = *(normal(seed, 1, 2, 8, 16) for seed in range(11, 14)), normal(14, 1, 1, 8, 8)
QUARTER = normal(15, 1, 3, 5, 32)  # angles, one for each pair


def swap_pairs() -> Tensor:
    """x @ it turns each pair (a, b) into (-b, a)."""
    matrix = torch.zeros(1, 1, 32, 32)
    for even in range(0, 32, 2):
        matrix[0, 0, even + 1, even], matrix[0, 0, even, even + 1] = -1, 1
    return matrix


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Pairs of neighbours as complex numbers, turned."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def ring() -> Case:
    """Two heads over the rows; 128 tokens over the columns, 100 of them real, with 128 of text, of which 40 count."""
    visual, text = (
        [normal(seed, 1, 2, 128, 32, dtype=torch.bfloat16) for seed in seeds] for seeds in ((16, 17, 18), (19, 20, 21))
    )
    q, k, v = (torch.cat(pair, 2).float() for pair in zip(visual, text, strict=True))
    seen = [*range(100), *range(128, 168)]
    mixed = F.scaled_dot_product_attention(q, k[:, :, seen], v[:, :, seen], scale=0.3).bfloat16()
    return Case(
        RING,
        [*(spread(x, MESH, 1, 2) for x in visual + text), [torch.tensor([40])] * MESH.size],
        [spread(part, MESH, 1, 2) for part in mixed.split(128, 2)],
        ring_attrs([1, 1, 128, 32], [1, 1, 128, 32], 100, text_size=128, program_config=[32, 32], scale=0.3),
        MESH,
    )


ATTENTION = [
    one(
        "transformer.scaled_dot_product_attention",
        [Q, K, V, MASK],
        (0.3 * Q @ K.mT + MASK).softmax(-1) @ V,
        kw=["attn_mask"],
        is_causal=False,
        scale=0.3,
        program_config=[32, 32],
        compute="hifi2",
    ),
    one(  # each position sees itself and those before it
        "transformer.scaled_dot_product_attention",
        [Q, Q.flip(-1), Q.flip(-2)],
        (0.3 * Q @ Q.flip(-1).mT + torch.full((Q.shape[-2],) * 2, -torch.inf).triu(1)).softmax(-1) @ Q.flip(-2),
        is_causal=True,
        scale=0.3,
        program_config=[32, 32],
        compute="hifi2",
    ),
    one(
        "experimental.rotary_embedding_llama",
        [
            ROTATED := normal(22, 2, 3, 5, 64),
            QUARTER.cos().repeat_interleave(2, -1),
            QUARTER.sin().repeat_interleave(2, -1),
            swap_pairs(),
        ],
        turned(ROTATED, QUARTER),
        is_decode_mode=False,
        compute="hifi4",
    ),
    ring(),
]

FRAMES, KERNEL, BIAS = normal(23, 1, 4, 5, 6, 64), normal(24, 32, 64, 3, 3, 3) / 40, normal(25, 32)
PICTURE = normal(26, 1, 3, 8, 8, 2)


def prepared(kernel: Tensor, block: int) -> Tensor:
    """A kernel [O, C, kD, kH, kW] as rows: for each block of channels, for each place of the kernel, its channels.

    This is what ttnn documents of prepare_conv3d_weights, channels padded to whole tiles; it runs on chips alone.
    """
    kernel = F.pad(kernel, (0, 0, 0, 0, 0, 0, 0, -kernel.shape[1] % 32))
    blocks = kernel.split(block or kernel.shape[1], dim=1)
    rows = [part[:, :, d, h, w] for part in blocks for d in range(3) for h in range(3) for w in range(3)]
    return torch.cat(rows, dim=1).T


def convolved(x: Tensor, kernel: Tensor, bias: Tensor | None, sides: tuple[int, int], mode: str, stride: int) -> Tensor:
    """The sum over the kernel's places of a product of each pixel, borders of H and W repeated or zeros."""
    height, width = sides
    x = F.pad(x.permute(0, 4, 1, 2, 3), (width, width, height, height, 0, 0), mode=mode)
    depth, rows, columns = (n - 2 for n in x.shape[2:])
    total = torch.zeros(1, kernel.shape[0], depth, rows, columns)
    for d in range(3):
        for h in range(3):
            for w in range(3):
                pixels = x[:, :, d : d + depth, h : h + rows, w : w + columns]
                total += torch.einsum("nctyx,oc->notyx", pixels, kernel[:, :, d, h, w])
    total = total if bias is None else total + bias[:, None, None, None]
    return total[:, :, :, ::stride, ::stride].permute(0, 2, 3, 4, 1)


VIDEO = [
    one(
        "experimental.conv3d",
        [FRAMES, prepared(KERNEL, 32), BIAS[None]],
        convolved(FRAMES, KERNEL, BIAS, (1, 0), "replicate", 2).bfloat16(),
        kw=["bias_tensor"],
        output_channels=32,
        kernel_size=[3, 3, 3],
        stride=[1, 2, 2],
        padding=[0, 1, 0],
        padding_mode="replicate",
        c_in_block=32,
        program_config=[32, 1, 2, 4],
        compute="hifi2",
    ),
    collective(
        PAD,
        spread(PICTURE, MESH, 2, 3),
        [
            # Channels beside batch, as torch pads the last three dimensions.
            F.pad(PICTURE.permute(0, 4, 1, 2, 3), (2, 1, 1, 1, 0, 0), mode="replicate").permute(0, 2, 3, 4, 1)[
                :, :, 4 * row : 4 * row + 6, 2 * column : 2 * column + 5
            ]
            for row in range(2)
            for column in range(4)
        ],
        dim=[2, 3],
        padding_left=[1, 2],
        padding_right=[1, 1],
        axis=[0, 1],
        padding_mode="replicate",
    ),
]

CASES = [*ELEMENTWISE, *SHAPE, *MATMUL, *NORM, *COLLECTIVES, *ATTENTION, *VIDEO]
