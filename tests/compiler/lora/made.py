"""LoRAs of the tiny preset with random numbers, written by diffusers and as Genmo's fine-tuner writes them."""

import json
from pathlib import Path

import torch
from diffusers import MochiPipeline, MochiTransformer3DModel
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from mochi_aot.compiler.checkpoint.presets import TINY

# Each kind of module that peft can adapt: those that have one parameter, stacked ones, and the embedding of patches.
TARGETS = [
    *("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "norm1.linear", "norm1_context.linear"),
    *("patch_embed.proj", "linear_1", "pooler.to_kv", "caption_proj", "norm_out.linear", "proj_out"),
]
Tensors = dict[str, torch.Tensor]


def diffusers_lora(checkpoint: Path, folder: Path, rank: int = 4, alpha: float = 8.0, seed: int = 1) -> Path:
    """Have diffusers write an adapter with random numbers, and what it knows of alphas, and return the file."""
    transformer = MochiTransformer3DModel.from_pretrained(checkpoint / "transformer")
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, alpha_pattern={"to_q": 3.0 * alpha})
    transformer.add_adapter(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in transformer.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    factors = get_peft_model_state_dict(transformer)
    MochiPipeline.save_lora_weights(folder, factors, **_collate_lora_metadata({"transformer": transformer}))
    return folder / "pytorch_lora_weights.safetensors"


def fused_by_diffusers(checkpoint: Path, loras: dict[Path, float]) -> Tensors:
    """The transformer's tensors, by diffusers' names, after `fuse_lora` of all of these at these strengths."""
    transformer = MochiTransformer3DModel.from_pretrained(checkpoint / "transformer")
    for index, path in enumerate(loras):
        factors, notes = MochiPipeline.lora_state_dict(str(path), return_lora_metadata=True)
        MochiPipeline.load_lora_into_transformer(factors, transformer, adapter_name=f"lora{index}", metadata=notes)
    transformer.set_adapters([f"lora{index}" for index in range(len(loras))], list(loras.values()))
    transformer.fuse_lora()
    held = transformer.state_dict().items()
    return {key.replace(".base_layer", ""): value for key, value in held if "lora_" not in key}


def genmo_lora(path: Path, rank: int = 3, alpha: float = 6.0, seed: int = 2) -> Tensors:
    """Write a LoRA as demos/fine_tuner/train.py does: float32 factors of LoraLinear under its own names, and the
    arguments of the model in the header. Returns the factors."""
    config, generator, factors = TINY.dit, torch.Generator().manual_seed(seed), Tensors()
    for block in range(config.layers):
        sizes = {"qkv_x": (3 * config.width, config.width), "qkv_y": (3 * config.width, config.text_width)}
        sizes["proj_x"] = config.width, config.width
        if block < config.layers - 1:
            sizes["proj_y"] = config.text_width, config.width
        for layer, (out, size) in sizes.items():
            factors[f"blocks.{block}.attn.{layer}.lora_A"] = torch.randn(rank, size, generator=generator) * 0.2
            factors[f"blocks.{block}.attn.{layer}.lora_B"] = torch.randn(out, rank, generator=generator) * 0.2
    arguments = {
        f"{layer}_lora_{name}": value
        for layer, scale in (("qkv_proj", 1.0), ("out_proj", 0.5))
        for name, value in (("rank", rank), ("alpha", scale * alpha), ("dropout", 0.0))
    }
    save_file(factors, path, metadata={"kwargs": json.dumps(arguments)})
    return factors


def merged_by_genmo(weights: Tensors, factors: Tensors, rank: int = 3, alpha: float = 6.0) -> Tensors:
    """Genmo's stacked weights after LoraLinear.eval(): weight += (lora_B @ lora_A) * (lora_alpha / r), where proj_x and
    proj_y have an alpha of their own. Said again here from genmoai/mochi's joint_model/lora.py."""
    merged = dict(weights)
    for key in factors:
        if key.endswith(".lora_A"):
            module = key.removesuffix(".lora_A")
            scaling = (alpha if ".qkv_" in module else 0.5 * alpha) / rank
            merged[f"{module}.weight"] = (
                weights[f"{module}.weight"] + (factors[f"{module}.lora_B"] @ factors[key]) * scaling
            )
    return merged
