import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).reshape(4, 3),
    "b": torch.arange(5, dtype=torch.bfloat16),
    "c": torch.arange(16, dtype=torch.float16).reshape(2, 2, 2, 2),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "x.safetensors"
    save_file(TENSORS, path)
    return path


@given(st.sampled_from(sorted(TENSORS)), st.data())
def test_any_rows_of_any_tensor(path: Path, key: str, data: st.DataObject) -> None:
    rows = TENSORS[key].shape[0]
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    read = TensorFile(path).read_rows(key, start, stop)
    assert read.dtype == TENSORS[key].dtype
    assert torch.equal(read, TENSORS[key][start:stop])


def test_what_is_read_outlives_the_file(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    read = TensorFile(copy).read_rows("a", 0, 4)
    copy.write_bytes(b"")
    assert torch.equal(read, TENSORS["a"])


def test_a_file_that_is_cut_while_open_is_noticed(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    file = TensorFile(copy)
    copy.write_bytes(path.read_bytes()[:-70])
    with pytest.raises(CheckpointError, match=r"copy\.safetensors became shorter"):
        file.read_rows("c", 0, 2)
        file.read_rows("a", 0, 4)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors is missing"):
        TensorFile(tmp_path / "gone.safetensors")


def _file(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _tensor(begin: int, end: int, shape: list[int]) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x08\0\0", id="shorter than a length"),
        pytest.param(_file(b"{}", length=1 << 60), id="header of 2^60 bytes"),
        pytest.param(_file(b"{}", length=100), id="header past the end"),
        pytest.param(_file(b"{not json"), id="header that is not JSON"),
        pytest.param(_file(_tensor(0, 8, [2])), id="no data"),
        pytest.param(_file(_tensor(0, 8, [2]), b"\0" * 7), id="a byte missing"),
        pytest.param(_file(_tensor(0, 8, [2]), b"\0" * 9), id="a byte too many"),
        pytest.param(_file(_tensor(0, 8, [3]), b"\0" * 8), id="shape and bytes disagree"),
        pytest.param(_file(_tensor(4, 12, [2]), b"\0" * 12), id="a hole"),
    ],
)
def test_a_malformed_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors is not a whole safetensors file"):
        TensorFile(path)
