"""What people bring along for a model that is there: deltas of bundles, LoRAs, and GGUF files."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import save

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.delta import StyledBundle, with_delta
from mochi_aot.artifacts.delta_writer import write_delta
from mochi_aot.artifacts.layout import DELTA_PATH
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.stored_dtypes import STORED
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.lora.lora import read_lora
from tests.artifacts import test_delta as samples


@cache
def _delta(folder: Path) -> Bundle:
    """Write a base, and a delta of it, into a folder. Return the base."""
    base = samples.write(folder / "base", samples.pieces(samples.Q, samples.K))
    tuned = samples.pieces(samples.Q + samples.ADDED_Q, samples.K + samples.ADDED_K)
    more = {"checkpoint": {"lora": "red:1"}}
    style = samples.write(folder / "style", tuned, samples.OTHER + 1, "tuned qk", samples.record(), **more)
    write_delta(base, style, folder / "delta", False, "test")
    return base


def read_delta(folder: Path, data: bytes) -> None:
    """Read a header as if it were the delta's in a folder, and all that each device would hold."""
    base = _delta(folder)
    (folder / "delta" / DELTA_PATH).write_bytes(data)
    styled = with_delta(base, folder / "delta")
    assert isinstance(styled, StyledBundle)
    for device in range(4):
        for name in styled.tuned:
            styled.addition(name, divmod(device, 2))
    for name in base.weights:
        styled.content(name)
        for part in styled.parts(name):
            styled.check_part(part)
    styled.opened.verify()


@cache
def deltas() -> list[bytes]:
    """Return a delta's header."""
    with TemporaryDirectory() as folder:
        _delta(Path(folder))
        return [(Path(folder) / "delta" / DELTA_PATH).read_bytes()]


def read_lora_file(path: Path) -> None:
    """Read a LoRA of the tiny preset, and multiply its factors."""
    for change in read_lora(path, TINY.dit, 0.5).changes.values():
        change.factors.scale * change.factors.up.float() @ change.factors.down.float()


@cache
def loras() -> list[bytes]:
    """Return LoRAs in Genmo's form and in diffusers', of rank 1 and of one module."""
    width = TINY.dit.width
    down, up = np.ones((1, width), np.float32), np.ones((3 * width, 1), np.float32)
    notes = {"kwargs": json.dumps({"qkv_proj_lora_rank": 1, "qkv_proj_lora_alpha": 2.0, "qkv_proj_lora_dropout": 0.0})}
    genmo = {"blocks.0.attn.qkv_x.lora_A": down, "blocks.0.attn.qkv_x.lora_B": up}
    query = "transformer.transformer_blocks.0.attn1.to_q"
    diffusers = {f"{query}.lora_A.weight": down, f"{query}.lora_B.weight": up[:width]}
    return [save(genmo, notes), save(diffusers | {f"{query}.alpha": np.array(2.0, np.float32)}), save(diffusers)]


def read_gguf(path: Path) -> None:
    """Read all tensors of a GGUF file."""
    file = TensorFile(path)
    for key, entry in file.tensors.items():
        if entry.dtype in STORED and entry.shape and entry.nbytes:
            file.read_rows(key, 0, entry.shape[0])


@cache
def ggufs() -> list[bytes]:
    """Return a GGUF file with two tensors and some notes."""
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.gguf"
        writer = GGUFWriter(path, "mochi")
        writer.add_array("list", [1, 2, 3])
        writer.add_tensor("plain", np.ones((2, 3), np.float32))
        packed = quantize(np.ones((2, 64), np.float32), GGMLQuantizationType.Q8_0)
        writer.add_tensor("packed", packed, raw_dtype=GGMLQuantizationType.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return [path.read_bytes()]
