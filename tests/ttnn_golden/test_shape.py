import torch

from tests.ttnn_golden.chips import Mesh, golden, normal, on_one

X = normal(0, 2, 3, 8)


def test_moves():
    assert torch.equal(on_one("permute", X, dims=[2, 0, 1]), X.permute(2, 0, 1))
    assert torch.equal(on_one("transpose", X, dim1=0, dim2=2), X.transpose(0, 2))
    assert torch.equal(on_one("reshape", X, shape=[6, 8]), X.reshape(6, 8))
    assert torch.equal(on_one("slice", X, slice_start=[0, 1, 2], slice_end=[2, 3, 5]), X[:, 1:3, 2:5])
    assert torch.equal(on_one("concat", X, X + 1, dim=1), torch.cat([X, X + 1], 1))
    assert torch.equal(on_one("repeat", X, repeat_dims=[1, 2, 1]), X.repeat(1, 2, 1))
    assert torch.equal(on_one("expand", X[:1], output_shape=[4, 3, 8]), X[:1].expand(4, 3, 8))
    assert torch.equal(on_one("to_layout", X, layout="row_major"), X)


def test_pad():
    padded = on_one("pad", X, padding=[[0, 0], [1, 2], [0, 4]], value=7.0)
    assert padded.shape == (2, 6, 12)
    assert torch.equal(padded[:, 1:4, :8], X)
    assert padded[:, 0].eq(7).all() and padded[:, 4:].eq(7).all() and padded[..., 8:].eq(7).all()


def test_heads_are_split_alike_by_both_ops():
    b, n, heads, width = 2, 5, 3, 4
    x = normal(1, b, n, 3 * heads * width)
    parts = [part.reshape(b, n, heads, width).transpose(1, 2) for part in x.chunk(3, dim=-1)]
    one = Mesh(1, 1)
    split = golden(
        "transformer.split_query_key_value_and_split_heads", [x], mesh=one, num_heads=heads, transpose_key=False
    )
    created = golden(
        "experimental.nlp_create_qkv_heads", [x.unsqueeze(1)], mesh=one, num_heads=heads, transpose_k_heads=False
    )
    for expected, a, c in zip(parts, split, created, strict=True):
        assert torch.equal(a[0], expected) and torch.equal(c[0], expected)


def test_fewer_heads_of_keys_and_keys_transposed():
    x = normal(1, 2, 1, 5, (4 + 2 * 2) * 8)
    q, k, v = golden("experimental.nlp_create_qkv_heads", [x], mesh=Mesh(1, 1), num_heads=4, num_kv_heads=2)
    assert torch.equal(q[0][:, 3], x[:, 0, :, 24:32])
    assert torch.equal(k[0][:, 1], x[:, 0, :, 40:48].transpose(1, 2))
    assert torch.equal(v[0][:, 0], x[:, 0, :, 48:56])


def test_heads_are_joined_alike_by_both_ops():
    x = normal(1, 2, 3, 5, 4)
    expected = x.transpose(1, 2).reshape(2, 5, 12)
    assert torch.equal(on_one("transformer.concatenate_heads", x), expected)
    assert torch.equal(on_one("experimental.nlp_concat_heads", x), expected.unsqueeze(1))
