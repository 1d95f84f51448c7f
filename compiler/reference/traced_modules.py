"""What is traced: for each module its inputs' rates and its outputs' names."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.programs import CheckedDecode, DenoiseStep, EncodeText, EncodeVideo

STEP_INPUTS = ("sigma", "next_sigma", "guidance_scale")


@dataclass(frozen=True)
class TracedModule:
    """One module to trace. Inputs not named in `rates` change with the latent."""

    name: str
    build: Callable[[MochiConfig, Geometry, torch.dtype], EncodeText | DenoiseStep | CheckedDecode | EncodeVideo]
    rates: dict[str, str]
    outputs: tuple[str, ...]


TRACED_MODULES = (
    TracedModule(
        "encode_text",
        lambda config, geometry, dtype: EncodeText(config, dtype),
        {"input_ids": "prompt", "attention_mask": "prompt"},
        ("prompt_embeds",),
    ),
    TracedModule(
        "denoise",
        DenoiseStep,
        dict.fromkeys(STEP_INPUTS, "step")
        | {
            f"{sign}{part}": "prompt"
            for sign in ("", "negative_")
            for part in ("prompt_embeds", "prompt_attention_mask")
        },
        ("latents",),
    ),
    TracedModule("decode", CheckedDecode, {}, ("frames", "nonfinite")),
    TracedModule("encode", EncodeVideo, {}, ("latents",)),
)
