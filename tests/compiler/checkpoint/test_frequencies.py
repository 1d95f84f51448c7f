"""Which file rotary frequencies are read from, and that it is part of what a checkpoint is."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.seeded import seeded_parameter
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint

NAME, KEY = "dit.pos_frequencies", "pos_frequencies"
EXACT = seeded_parameter(NAME, (3, TINY.dit.heads, TINY.dit.head_dim // 2), 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frequencies") / "mochi"
    write_checkpoint(path, TINY, "genmo")
    return path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """Genmo's layout, frequencies in bfloat16."""
    shutil.copytree(whole, tmp_path / "mochi")
    store(tmp_path / "mochi" / "dit.safetensors", EXACT.bfloat16())
    return tmp_path / "mochi"


def store(path: Path, frequencies: torch.Tensor) -> None:
    save_file({**(load_file(path) if path.exists() else {}), KEY: frequencies}, path)


def test_float32_needs_no_other_file(whole: Path) -> None:
    checkpoint = open_checkpoint(whole)
    assert torch.equal(checkpoint.read(NAME), EXACT) and checkpoint.notes == ()


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")])
def test_less_is_said(folder: Path, dtype: torch.dtype, name: str) -> None:
    store(folder / "dit.safetensors", EXACT.to(dtype))
    checkpoint = open_checkpoint(folder)
    (note,) = checkpoint.notes
    assert note.startswith(f"{folder / 'dit.safetensors'}: {KEY} is {name}, and no file beside it has it in float32")
    assert torch.equal(checkpoint.read(NAME), EXACT.to(dtype))


def test_another_variant_of_the_file_has_them(folder: Path) -> None:
    """Even one whose bfloat16 numbers were cut off, not rounded: up to 2^-7 away."""
    store(folder / "dit.safetensors", (EXACT.view(torch.int32) & -65536).view(torch.float32).bfloat16())
    store(folder / "dit.full.safetensors", EXACT)
    checkpoint = open_checkpoint(folder)
    assert torch.equal(checkpoint.read(NAME), EXACT) and checkpoint.dtype(NAME) == "float32"
    own, other = folder / "dit.safetensors", folder / "dit.full.safetensors"
    assert checkpoint.notes == (f"{own}: {KEY} is bfloat16; the float32 one in {other} is used",)


def of_another_model(folder: Path) -> None:
    store(folder / "other.safetensors", EXACT * 1.02)


def of_another_shape(folder: Path) -> None:
    store(folder / "other.safetensors", EXACT[:, :, :-1].contiguous())


def in_bfloat16_too(folder: Path) -> None:
    store(folder / "other.safetensors", EXACT.bfloat16())


def damaged(folder: Path) -> None:
    (folder / "other.safetensors").write_bytes(b"no tensors")


@pytest.mark.parametrize("spoil", [of_another_model, of_another_shape, in_bfloat16_too, damaged])
def test_what_is_not_the_same_is_not_used(folder: Path, spoil: object) -> None:
    assert callable(spoil)
    spoil(folder)
    checkpoint = open_checkpoint(folder)
    assert torch.equal(checkpoint.read(NAME), EXACT.bfloat16())
    assert ", and no file beside it has it in float32" in checkpoint.notes[0]


def test_they_are_part_of_the_identity(folder: Path) -> None:
    """Of the checkpoint and of the parameter; where the file lies is not."""
    found = []
    for frequencies in (None, EXACT, EXACT * 1.001, EXACT):
        if frequencies is not None:
            store(folder / "other.safetensors", frequencies)
        checkpoint = open_checkpoint(folder)
        found.append((checkpoint.identity(), checkpoint.fingerprint(NAME)))
    assert found[1] == found[3] and len(set(found)) == 3
    assert len({identity for identity, _ in found}) == len({fingerprint for _, fingerprint in found}) == 3
