"""A compile with LoRAs against diffusers' own pipeline with the same LoRAs fused, on several meshes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import MochiPipeline
from safetensors.numpy import load_file

from mochi_aot.artifacts import Bundle
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.tools.commands.compile import main as compile_main
from mochi_aot.tools.commands.run import main as run_main
from tests.compiler.lora import made
from tests.reference_run import relative_error

pytestmark = pytest.mark.slow
PROMPT, NEGATIVE, STEPS, GUIDANCE, SEED = "a red fox runs over the snow", "blur", 2, 4.5, 3
SIZE = (32, 48, 13)
TOLERANCE = 1e-4  # as of tests/test_diffusers.py: float32 in another order, amplified by the guidance in each step


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loras") / "checkpoint"
    write_checkpoint(path, TINY, "diffusers", seed=11)
    return path


@pytest.fixture(scope="module")
def loras(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, float]:
    folder = tmp_path_factory.mktemp("made")
    first = made.diffusers_lora(checkpoint, folder / "first")
    return {first: 0.4, made.diffusers_lora(checkpoint, folder / "second", rank=2, alpha=2.0, seed=9): -0.5}


def compiled(checkpoint: Path, output: Path, *options: object) -> Bundle:
    words = ["--checkpoint", checkpoint, "--dtype", "float32", "--geometry", "x".join(map(str, SIZE)), "-o", output]
    result = CliRunner().invoke(compile_main, [*map(str, [*words, "--target", "torch", *options])])
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(output)
    bundle.verify()
    return bundle


def asked(loras: dict[Path, float]) -> list[str]:
    return [word for path, strength in loras.items() for word in ("--lora", f"{path}:{strength}")]


def latents(bundle: Path, *options: object) -> np.ndarray:
    """What mochi-run saves."""
    place = bundle.parent / "latents.safetensors"
    common = [
        "--prompt",
        PROMPT,
        "--negative-prompt",
        NEGATIVE,
        "--steps",
        STEPS,
        "--guidance-scale",
        GUIDANCE,
        "--seed",
        SEED,
        "--no-decode",
    ]
    words = [*map(str, [bundle, *common, "--force", "--save-latents", place, *options])]
    result = CliRunner().invoke(run_main, words)
    assert result.exit_code == 0, result.output
    return load_file(place)["latents"]


@pytest.fixture(scope="module")
def theirs(checkpoint: Path, loras: dict[Path, float]) -> np.ndarray:
    """The latents of diffusers' pipeline after load_lora_weights, set_adapters and fuse_lora."""
    pipeline = MochiPipeline.from_pretrained(checkpoint, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for index, path in enumerate(loras):
        pipeline.load_lora_weights(path, adapter_name=f"lora{index}")
    pipeline.set_adapters([f"lora{index}" for index in range(len(loras))], list(loras.values()))
    pipeline.fuse_lora()
    height, width, frames = SIZE
    noise = torch.from_numpy(seeded_latents(SEED, (1, 12, 3, height // 8, width // 8)))
    sizes = {"height": height, "width": width, "num_frames": frames, "num_inference_steps": STEPS}
    options = {**sizes, "guidance_scale": GUIDANCE, "latents": noise, "output_type": "latent"}
    made_by_them: np.ndarray = pipeline(prompt=PROMPT, negative_prompt=NEGATIVE, **options).frames.numpy()
    return made_by_them


@pytest.mark.parametrize("mesh", ["2x2", "2x4"])
def test_as_diffusers_fuses(
    checkpoint: Path, loras: dict[Path, float], theirs: np.ndarray, mesh: str, tmp_path
) -> None:
    bundle = compiled(checkpoint, tmp_path / "style", "--mesh", mesh, *asked(loras))
    assert relative_error(latents(bundle.path), theirs) < TOLERANCE
    names = [f"{path.name}:{strength:g}" for path, strength in loras.items()]
    assert bundle.manifest.checkpoint["lora"] == ", ".join(names)
