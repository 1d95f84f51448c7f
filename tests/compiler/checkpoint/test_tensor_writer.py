import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mochi_aot.compiler.checkpoint.tensor_writer import Tensor, split, write_sharded, write_tensors


def _tensor(key: str, value: torch.Tensor) -> Tensor:
    return Tensor(key, tuple(value.shape), value.dtype, lambda: value)


HALF = torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16)
FULL = torch.tensor([[1.0], [2.0]])


def test_the_bytes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, [_tensor("half", HALF), _tensor("full", FULL)])
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length]) == {
        "__metadata__": {"format": "pt"},
        "full": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "half": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]},
    }
    assert content[8 + length :] == struct.pack("<ff", 1, 2) + bytes.fromhex("803f 0040 4040")


def test_safetensors_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, [_tensor("half", HALF), _tensor("full", FULL)])
    read = load_file(path)
    assert torch.equal(read["half"], HALF)
    assert torch.equal(read["full"], FULL)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_tensor_that_breaks_its_promise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="promised"):
        write_tensors(tmp_path / "x.safetensors", [Tensor("a", (3,), torch.float32, lambda: HALF)])


def test_split_fills_shards_and_gives_a_large_tensor_its_own() -> None:
    tensors = [_tensor(key, torch.zeros(size)) for key, size in {"a": 1, "b": 1, "c": 9, "d": 1, "e": 2}.items()]
    assert [[tensor.key for tensor in shard] for shard in split(tensors, 12)] == [["a", "b"], ["c"], ["d", "e"]]


def test_one_shard_is_a_single_file(tmp_path: Path) -> None:
    write_sharded(tmp_path, "model", [_tensor("half", HALF), _tensor("full", FULL)], 14)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_shards_have_an_index(tmp_path: Path) -> None:
    write_sharded(tmp_path, "model", [_tensor("half", HALF), _tensor("full", FULL)], 13)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == names
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text()) == {
        "metadata": {"total_size": 14},
        "weight_map": {"half": names[0], "full": names[1]},
    }
