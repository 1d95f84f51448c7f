"""Folders as people have them, made of the tiny preset's seeded weights."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

MARK = {"format": "pt"}
COMFY = {"dit": "model.diffusion_model.", "decoder": "vae.decoder.", "encoder": "vae.encoder."}
COMFY_TEXT = "text_encoders.t5xxl.transformer."


def save(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write tensors, in folders that are made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata=MARK)
    return path


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    return {key: tensor.to(dtype) for key, tensor in tensors.items()}


def save_shards(folder: Path, stem: str, tensors: Tensors, count: int, index: str) -> None:
    """Write shards named STEM-0000N-of-0000M.safetensors, and their index under a name of its own."""
    keys = sorted(tensors)
    names = [f"{stem}-{number + 1:05d}-of-{count:05d}.safetensors" for number in range(count)]
    for number, name in enumerate(names):
        save(folder / name, {key: tensors[key] for key in keys[number::count]})
    weight_map = {key: names[place % count] for place, key in enumerate(keys)}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def publish(diffusers: Path, genmo: Path, root: Path) -> Path:
    """Write the repository of Mochi 1 as it is on the hub: both layouts, float32 and bfloat16, both indexes."""
    stem = "diffusion_pytorch_model"
    shutil.copytree(diffusers, root, ignore=shutil.ignore_patterns("*.safetensors"))
    transformer = load_file(diffusers / "transformer" / f"{stem}.safetensors")
    save_shards(root / "transformer", stem, transformer, 5, f"{stem}.safetensors.index.json")
    bf16 = cast(transformer, torch.bfloat16)
    save_shards(root / "transformer", f"{stem}.bf16", bf16, 3, f"{stem}.safetensors.index.bf16.json")
    vae = load_file(diffusers / "vae" / f"{stem}.safetensors")
    save(root / "vae" / f"{stem}.safetensors", vae)
    save(root / "vae" / f"{stem}.bf16.safetensors", cast(vae, torch.bfloat16))
    text = load_file(diffusers / "text_encoder" / "model.safetensors")
    save_shards(root / "text_encoder", "model", text, 4, "model.safetensors.index.json")
    for name in ("dit", "decoder", "encoder"):
        shutil.copy(genmo / f"{name}.safetensors", root)
    (root / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Mochi 1\n")
    return root


def remove(root: Path, *patterns: str) -> None:
    """Remove files; a pattern that finds none is a mistake of the test."""
    for pattern in patterns:
        found = list(root.glob(pattern))
        assert found, pattern
        for path in found:
            path.unlink()


def scaled_fp8(tensors: Tensors, which: Callable[[str], bool]) -> Tensors:
    """Return tensors as ComfyUI scales them to eight bits: a float32 number beside each, and an empty mark."""
    out: Tensors = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for key, tensor in tensors.items():
        if which(key):
            scale = (tensor.abs().max() / 448).to(torch.float32)
            out[key] = (tensor / scale).to(torch.float8_e4m3fn)
            out[f"{key.removesuffix('weight')}scale_weight"] = scale
        else:
            out[key] = tensor
    return out


def save_gguf(path: Path, tensors: Tensors, quantised: Iterable[str], kind: str, arch: str = "mochi") -> Path:
    """Write a GGUF file by the package's own quantiser and writer; the others are float32."""
    import gguf

    writer, chosen = gguf.GGUFWriter(path, arch), set(quantised)
    for key, tensor in tensors.items():
        data = np.ascontiguousarray(tensor.float().numpy())
        if key not in chosen:
            writer.add_tensor(key, data)
            continue
        dtype = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(key, gguf.quantize(data, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
