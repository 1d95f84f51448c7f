"""What is remembered of files that were read, and by whom it is believed."""

import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mochi_aot.compiler.checkpoint import CheckpointError, open_checkpoint
from mochi_aot.compiler.checkpoint.content_record import KEPT_SECONDS, ContentRecord
from mochi_aot.compiler.checkpoint.file_state import FileState
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile

STATE = FileState(10, 7, 100, 200)
A, B = "a" * 64, "b" * 64


def test_what_was_added_is_known_to_those_who_trust_it(tmp_path: Path) -> None:
    writer = ContentRecord(tmp_path / "r", trust=False)
    writer.add(STATE, "blocks.0 weight 0:4", A)
    writer.add(STATE, "b 0:1", A)
    writer.add(STATE, "b 0:1", B)  # the last one holds
    assert writer.known(STATE) == {}
    assert ContentRecord(tmp_path / "r", trust=True).known(STATE) == {"blocks.0 weight 0:4": A, "b 0:1": B}


@pytest.mark.parametrize("change", [(11, 7, 100, 200), (10, 8, 100, 200), (10, 7, 101, 200), (10, 7, 100, 201)])
def test_a_file_in_another_state_is_not_known(tmp_path: Path, change: tuple[int, int, int, int]) -> None:
    record = ContentRecord(tmp_path, trust=True)
    record.add(STATE, "a", A)
    assert record.known(FileState(*change)) == {}
    record.add(FileState(*change), "a", B)
    assert record.known(FileState(*change)) == {"a": B}
    assert record.known(STATE) == ({"a": A} if change[1] != STATE.inode else {})  # a file has one state at a time


def test_what_was_recorded_long_ago_goes(tmp_path: Path) -> None:
    record = ContentRecord(tmp_path, trust=True)
    for inode, age in ((1, KEPT_SECONDS + 60), (2, KEPT_SECONDS - 60)):
        state = FileState(10, inode, 100, 200)
        record.add(state, "a", A)
        (path,) = tmp_path.glob(f"{inode}-*")
        os.utime(path, (time.time() - age,) * 2)
    record.add(STATE, "a", A)
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["2", "7"]


def test_lines_that_are_damaged_are_passed_over(tmp_path: Path) -> None:
    record = ContentRecord(tmp_path, trust=True)
    record.add(STATE, "a", A)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text() + f"blake3 {B}\nblake3 {B[:9]} b\nnonsense\n{B} d\n\nblake3 {B} c")
    assert record.known(STATE) == {"a": A, "c": B}
    path.write_bytes(b"\xff\xfe")
    assert record.known(STATE) == {}


def test_where_nothing_can_be_written_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    record = ContentRecord(tmp_path / "file", trust=True)
    record.add(STATE, "a", A)
    assert record.known(STATE) == {}


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the test count as old enough."""
    monkeypatch.setattr(FileState, "settled", lambda self, time_ns: True)


@pytest.mark.usefixtures("settled")
def test_a_checkpoint_that_is_trusted_is_not_read(
    diffusers_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_checkpoint(diffusers_copy, record=ContentRecord(tmp_path / "r", trust=False))
    identity = first.identity()
    monkeypatch.setattr(TensorFile, "read_rows", lambda *_: pytest.fail("it is read"))
    second = open_checkpoint(diffusers_copy, record=ContentRecord(tmp_path / "r", trust=True))
    assert second.identity() == identity


@pytest.mark.usefixtures("settled")
def test_a_file_that_was_moved_into_place_is_read(diffusers_copy: Path, tmp_path: Path) -> None:
    record = ContentRecord(tmp_path / "r", trust=True)
    before = open_checkpoint(diffusers_copy, record=record).identity()
    (path,) = (diffusers_copy / "vae").glob("*.safetensors")
    tensors = load_file(path)
    tensors["decoder.conv_in.bias"][0] += 1
    save_file(tensors, tmp_path / "new", metadata={"format": "pt"})
    shutil.move(tmp_path / "new", path)
    assert open_checkpoint(diffusers_copy, record=record).identity() != before


@pytest.mark.usefixtures("settled")
def test_a_trusted_hash_that_reading_contradicts_is_an_error(diffusers_copy: Path, tmp_path: Path) -> None:
    record = ContentRecord(tmp_path / "r", trust=True)
    open_checkpoint(diffusers_copy, record=record).identity()
    for path in (tmp_path / "r").iterdir():
        path.write_text("".join(f"blake3 {B} {line.split(maxsplit=2)[2]}" for line in path.open()))
    checkpoint = open_checkpoint(diffusers_copy, record=record)
    assert B in checkpoint.fingerprint("decoder.conv_in.bias")
    with pytest.raises(CheckpointError, match=r"conv_in.bias is not what the file's times say: compile without"):
        checkpoint.read("decoder.conv_in.bias")


def test_a_file_that_was_written_just_now_is_not_recorded(diffusers_copy: Path, tmp_path: Path) -> None:
    """Another change at once would have the same times."""
    fresh = diffusers_copy / "vae" / "diffusion_pytorch_model.safetensors"
    fresh.write_bytes(fresh.read_bytes())
    opened = open_checkpoint(diffusers_copy, record=ContentRecord(tmp_path / "r", trust=True))
    opened.fingerprint("decoder.conv_in.bias")
    assert not (tmp_path / "r").exists()
    time.sleep(1.1)
    again = open_checkpoint(diffusers_copy, record=ContentRecord(tmp_path / "r", trust=True))
    again.fingerprint("decoder.conv_in.bias")
    assert len(list((tmp_path / "r").iterdir())) == 1
    assert torch.equal(again.read("decoder.conv_in.bias"), opened.read("decoder.conv_in.bias"))
