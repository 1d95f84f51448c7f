"""Safetensors in and out, against the safetensors package, and every way in which a file can be wrong."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mochi_aot.runtime.errors import InputFileError
from mochi_aot.runtime.tensor_files import (
    Embedding,
    check_latents_file,
    check_prompt_file,
    check_prompt_masks,
    load_latents_file,
    load_prompt_file,
    require_first,
    save_latents_file,
    save_prompt_file,
)

LENGTH, WIDTH = 8, 6
EMBEDS = [1, LENGTH, WIDTH]
LATENTS = [1, 12, 2, 3, 4]


def embedding(seed: int) -> Embedding:
    random = np.random.default_rng(seed)
    embeds = random.standard_normal(EMBEDS).astype(np.float32)
    return Embedding(embeds, np.arange(LENGTH)[None] < seed)


def tensors(mask_dtype: torch.dtype = torch.bool, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    result = {}
    for prefix, value in (("", embedding(3)), ("negative_", embedding(5))):
        result[f"{prefix}prompt_embeds"] = torch.from_numpy(value.embeds).to(dtype)
        result[f"{prefix}prompt_attention_mask"] = torch.from_numpy(value.mask).to(mask_dtype)
    return result


def test_prompt_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_prompt_file(path, embedding(3), embedding(5))
    saved = load_file(path)
    assert {name: value.dtype for name, value in saved.items()} == {n: t.dtype for n, t in tensors().items()}
    positive, negative = load_prompt_file(check_prompt_file(path, EMBEDS))
    assert negative is not None
    for seen, expected in ((positive, embedding(3)), (negative, embedding(5))):
        np.testing.assert_array_equal(seen.embeds, expected.embeds)
        np.testing.assert_array_equal(seen.mask, expected.mask)
        assert seen.mask.dtype == np.bool_


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_dtypes_of_other_writers(tmp_path: Path, dtype: torch.dtype, mask_dtype: torch.dtype) -> None:
    path = tmp_path / "prompt.safetensors"
    written = tensors(mask_dtype, dtype)
    save_file(written, path, metadata={"format": "pt"})
    positive, _ = load_prompt_file(check_prompt_file(path, EMBEDS))
    np.testing.assert_array_equal(positive.embeds, written["prompt_embeds"].float().numpy())
    np.testing.assert_array_equal(positive.mask, embedding(3).mask)
    assert positive.embeds.dtype == np.float32


def test_the_negative_prompt_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({name: value for name, value in tensors().items() if not name.startswith("neg")}, path)
    assert load_prompt_file(check_prompt_file(path, EMBEDS))[1] is None


def test_latents_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "latents.safetensors"
    latents = np.random.default_rng(0).standard_normal(LATENTS).astype(np.float32)
    save_latents_file(path, latents.transpose(0, 1, 2, 4, 3))  # not contiguous
    np.testing.assert_array_equal(load_file(path)["latents"].numpy(), latents.transpose(0, 1, 2, 4, 3))
    save_latents_file(path, latents)
    np.testing.assert_array_equal(load_latents_file(path, check_latents_file(path, LATENTS)), latents)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", sorted(tensors()))
def test_missing_tensors_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({key: value for key, value in tensors().items() if key != name}, path)
    with pytest.raises(InputFileError, match=f"has no tensor '{name}'; it has "):
        check_prompt_file(path, EMBEDS)


@pytest.mark.parametrize("name", sorted(tensors()))
def test_misshapen_tensors_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({**tensors(), name: torch.zeros(1, 3)}, path)
    with pytest.raises(InputFileError, match=rf": {name} has shape \[1, 3\], the bundle wants \[1, 8"):
        check_prompt_file(path, EMBEDS)


def test_values_that_make_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({**tensors(), "prompt_embeds": torch.full(EMBEDS, float("nan"))}, path)
    with pytest.raises(InputFileError, match="prompt_embeds has values that are not finite"):
        load_prompt_file(check_prompt_file(path, EMBEDS))
    save_file({**tensors(), "prompt_attention_mask": torch.full((1, LENGTH), 0.5)}, path)
    with pytest.raises(InputFileError, match="prompt_attention_mask has values other than 0 and 1"):
        load_prompt_file(check_prompt_file(path, EMBEDS))


@pytest.mark.parametrize("mask", [[0] * 8, [1] + [0] * 7, [1] * 5 + [0] * 3, [1] * 8])
def test_ones_that_come_first(mask: list[int]) -> None:
    require_first(np.array([mask], np.bool_), "mask")


@pytest.mark.parametrize(
    ("mask", "token"), [([0, 1, 1, 0, 0, 0, 0, 0], 1), ([1, 1, 0, 0, 1, 0, 1, 0], 4), ([0] * 7 + [1], 7)]
)
@pytest.mark.parametrize("name", ["prompt_attention_mask", "negative_prompt_attention_mask"])
def test_masks_with_holes(tmp_path: Path, name: str, mask: list[int], token: int) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({**tensors(), name: torch.tensor([mask])}, path)
    entries = check_prompt_file(path, EMBEDS)
    load_prompt_file(entries)  # which is all that a target that masks token by token needs
    with pytest.raises(InputFileError, match=rf": {name} has a one after zeros, at token {token}, .*; put the tokens"):
        check_prompt_masks(entries)


def test_masks_of_a_file_without_a_negative_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({name: value for name, value in tensors().items() if not name.startswith("neg")}, path)
    check_prompt_masks(check_prompt_file(path, EMBEDS))


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: object, offsets: object, dtype: object = "F32") -> bytes:
    return json.dumps({"latents": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a safetensors file"),
        (b"1234567", "is not a safetensors file"),
        (b"\xff" * 64, "is not a safetensors file"),
        (header(b"{"), "is not a safetensors file"),
        (header(b"[]"), "is not a safetensors file"),
        (header(b"\xff\xff"), "is not a safetensors file"),
        (header(b'{"latents": 3}'), "is not a safetensors file"),
        (header(entry([1], ["a", "b"])), "is not a safetensors file"),
        (header(entry([1], [0, 4, 8])), "is not a safetensors file"),
        (header(entry([2], [0, 4]), bytes(8)), "inconsistent"),
        (header(entry([-1, -1], [0, 4]), bytes(8)), "is not a safetensors file"),
        (header(entry([float("inf")], [0, 4]), bytes(8)), "is not a safetensors file"),
        (header(entry([1], [8, 4]), bytes(8)), "inconsistent"),
        (header(entry([1], [-9, -5]), bytes(8)), "is not a safetensors file"),
        (header(entry([1], [0, 4], "F8_E4M3"), bytes(4)), "has dtype F8_E4M3; known are F64"),
        (header(entry([1], [0, 4]), bytes(3)), "is truncated"),
        (header(b"[" * 100000), "is not a safetensors file"),
        (header(b"{}"), "has no tensor 'latents'; it has none"),
    ],
)
def test_broken_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "latents.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputFileError, match=message):
        check_latents_file(path, [1])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="cannot be read: No such file"):
        check_latents_file(tmp_path / "none.safetensors", [1])
    with pytest.raises(InputFileError, match="cannot be read: it is a folder, expected a file"):
        check_latents_file(tmp_path, [1])
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputFileError, match="cannot be read: it is a FIFO, expected a file"):
        check_latents_file(tmp_path / "fifo", [1])


def test_a_file_that_shrinks_after_the_check(tmp_path: Path) -> None:
    path = tmp_path / "latents.safetensors"
    save_latents_file(path, np.zeros(LATENTS, np.float32))
    checked = check_latents_file(path, LATENTS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputFileError, match="is truncated; it has changed since it was checked"):
        load_latents_file(path, checked)
