"""Latents that Genmo's transformer and sampler have made, with a LoRA too: see tests/genmo_transformer.py."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mochi_aot.compiler.checkpoint import Checkpoint, open_checkpoint
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.lora.lora import read_lora
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import Embedding
from tests.genmo_numbers import seeded_weights
from tests.genmo_transformer import CASES, DATA, LORA_ARGUMENTS, Case, lora_factors
from tests.reference_run import Reference, relative_error

TOLERANCE = 1e-5  # of up to four guided steps, whose sums of float32 have another order; up to 2e-6 was seen


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny preset in Genmo's layout, with the seeded weights in its transformer."""
    path = tmp_path_factory.mktemp("genmo") / "mochi"
    write_checkpoint(path, TINY, "genmo")
    file = path / "dit.safetensors"
    with safe_open(file, "pt") as held:
        shapes = {key: tuple(held.get_slice(key).get_shape()) for key in held.keys()}  # noqa: SIM118  no mapping
    save_file(seeded_weights("dit", shapes), file)
    return path


def with_lora(checkpoint: Checkpoint, path: Path) -> TunedCheckpoint:
    """The checkpoint with the seeded LoRA, written as Genmo's fine-tuner writes one."""
    width, text, layers = TINY.dit.width, TINY.dit.text_width, TINY.dit.layers
    sizes = {"qkv_x": (3 * width, width), "qkv_y": (3 * width, text), "proj_x": (width, width), "proj_y": (text, width)}
    shapes = {}
    for block in range(layers):
        for layer, (out, size) in sizes.items():
            if (block, layer) != (layers - 1, "proj_y"):  # which nothing reads
                rank = LORA_ARGUMENTS["qkv_proj_lora_rank" if "qkv" in layer else "out_proj_lora_rank"]
                shapes[f"blocks.{block}.attn.{layer}.lora_A"] = (int(rank), size)
                shapes[f"blocks.{block}.attn.{layer}.lora_B"] = (out, int(rank))
    save_file(lora_factors(shapes), path, metadata={"kwargs": json.dumps(LORA_ARGUMENTS)})
    return TunedCheckpoint(checkpoint, [read_lora(path, TINY.dit)])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_latents(case: Case, checkpoint: Path, tmp_path: Path) -> None:
    opened = open_checkpoint(checkpoint)
    source = with_lora(opened, tmp_path / "lora.safetensors") if case.lora else opened
    reference = Reference(source, Geometry(*case.size))
    prompts = [Embedding(embeds.numpy(), mask.numpy()) for embeds, mask in map(case.prompt, (0, 1))]
    sigmas = linear_quadratic_sigmas(case.steps)
    latents = case.noise.numpy()
    for step, guidance in enumerate(case.guidance):
        latents = reference.denoise(latents, *prompts, sigmas[step : step + 2], guidance)
    expected = load_file(DATA)[case.name].numpy()
    assert relative_error(latents, expected) < TOLERANCE
    assert relative_error(case.noise.numpy(), expected) > 0.1  # the steps did something
