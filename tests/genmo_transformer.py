"""What Genmo's own transformer, sampler and LoRAs make of seeded weights and inputs.

As for the VAE (tests/genmo_numbers.py) results alone are kept, in tests/data/genmo/latents.safetensors. Again, in a
clone of Genmo's repository as there:

    pip install einops
    PYTHONPATH=mochi/src:. python -O -m tests.genmo_transformer mochi tests/data/genmo/latents.safetensors

-O because assertions of that code say that activations are bfloat16, and these numbers are of float32. It imports
flash attention and asks for a GPU's properties; what takes its place here gives torch's own attention.
"""

import ast
import contextlib
import random
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mochi_aot.compiler.checkpoint.presets import TINY
from tests.genmo_numbers import seeded, seeded_weights

DATA = Path(__file__).parent / "data/genmo/latents.safetensors"
LENGTH = 256  # tokens of a prompt
LORA_ARGUMENTS = {
    "qkv_proj_lora_rank": 3,
    "qkv_proj_lora_alpha": 6.0,
    "out_proj_lora_rank": 2,
    "out_proj_lora_alpha": 1,
}
_SAMPLER = {"linear_quadratic_schedule", "compute_packed_indices", "assert_eq", "sample_model"}


@dataclass(frozen=True)
class Case:
    """A video that is sampled: [height, width, frames], the tokens of prompt and negative prompt, and how."""

    name: str
    size: tuple[int, int, int]
    tokens: tuple[int, int]
    steps: int
    guidance: list[float]
    lora: bool = False

    @property
    def noise(self) -> Tensor:
        """float32 [1, 12, T, h, w]."""
        height, width, frames = self.size
        shape = (1, 12, (frames - 1) // 6 + 1, height // 8, width // 8)
        return seeded(f"{self.name}.noise", shape) * float(np.prod(shape[1:])) ** 0.5

    def prompt(self, which: int) -> tuple[Tensor, Tensor]:
        """Return embeddings float32 [1, LENGTH, caption_width], and a mask bool [1, LENGTH]."""
        width = TINY.dit.caption_width
        embeds = seeded(f"{self.name}.prompt{which}", (1, LENGTH, width)) * float(LENGTH * width) ** 0.5
        return embeds, torch.arange(LENGTH)[None] < self.tokens[which]


CASES = [
    Case("without a negative prompt", (32, 48, 7), (9, 0), 4, [4.5] * 4),
    Case("full prompts", (48, 64, 13), (256, 40), 4, [6.0, 6.0, 3.0, 1.0]),
    Case("a still", (32, 16, 1), (100, 1), 2, [4.5] * 2),
    Case("with a LoRA", (32, 32, 7), (20, 3), 4, [4.5] * 4, lora=True),
]


def lora_factors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return seeded factors by Genmo's keys, of their shapes."""
    return {key: seeded(key, shape) for key, shape in shapes.items()}


def _genmo_transformer(lora: bool) -> Any:
    """Return Genmo's model of the tiny preset, with the seeded weights."""
    attention: Any = types.ModuleType("genmo.lib.attn_imports")
    attention.flash_varlen_attn = attention.sage_attn = None
    attention.sdpa_attn_ctx = lambda training=False: contextlib.nullcontext()
    sys.modules["genmo.lib.attn_imports"] = attention
    from genmo.mochi_preview.dit.joint_model import asymm_models_joint  # type: ignore[import-not-found]

    asymm_models_joint.sdpa_kernel = lambda *_: contextlib.nullcontext()  # of kernels that GPUs have
    config = TINY.dit
    model = asymm_models_joint.AsymmDiTJoint(
        depth=config.layers,
        patch_size=config.patch,
        num_heads=config.heads,
        hidden_size_x=config.width,
        hidden_size_y=config.text_width,
        mlp_ratio_x=4.0,
        mlp_ratio_y=4.0,
        in_channels=config.in_channels,
        qk_norm=True,
        qkv_bias=False,
        timestep_scale=1000.0,
        t5_feat_dim=config.caption_width,
        t5_token_length=LENGTH,
        attention_mode="sdpa",
        **(LORA_ARGUMENTS if lora else {}),
    )
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    plain = {key: shape for key, shape in shapes.items() if "lora_" not in key}
    factors = lora_factors({key: shape for key, shape in shapes.items() if "lora_" in key})
    model.load_state_dict(seeded_weights("dit", plain) | factors)
    return model.eval()  # which merges LoRAs


def _sampler(genmo: Path) -> dict[str, Any]:
    """Return the functions of pipelines.py that sample, without what the rest of that file imports."""
    tree = ast.parse((genmo / "src/genmo/mochi_preview/pipelines.py").read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in _SAMPLER]
    names: dict[str, Any] = {"torch": torch, "np": np, "random": random, "F": torch.nn.functional, **vars(typing)}
    names |= {"get_new_progress_bar": lambda steps, desc: steps, "dit_latents_to_vae_latents": lambda latents: latents}
    exec(compile(tree, "pipelines.py", "exec"), names)
    return names


def genmo_latents(genmo: Path, case: Case) -> Tensor:
    """Sample a video by Genmo's code. Return its latents as the sampler sees them."""
    names = _sampler(genmo)
    conditions = []
    for which in (0, 1):
        embeds, mask = case.prompt(which)
        conditions.append({"y_feat": [embeds], "y_mask": [mask]})
    names["torch"] = drawing = types.ModuleType("torch")
    drawing.__dict__.update(vars(torch), randn=lambda *_, **__: case.noise)
    height, width, frames = case.size
    sigmas = names["linear_quadratic_schedule"](case.steps, 0.025)
    latents: Tensor = names["sample_model"](
        torch.device("cpu"),
        _genmo_transformer(case.lora),
        dict(zip(("cond", "null"), conditions, strict=True)),
        **{"seed": 0, "height": height, "width": width, "num_frames": frames, "num_inference_steps": case.steps},
        cfg_schedule=case.guidance,
        sigma_schedule=sigmas,
    )
    return latents


if __name__ == "__main__":
    with torch.no_grad():
        save_file({case.name: genmo_latents(Path(sys.argv[1]), case) for case in CASES}, sys.argv[2])
