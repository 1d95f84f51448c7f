import hashlib
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLMochi, MochiPipeline, MochiTransformer3DModel
from transformers import T5EncoderModel, T5Tokenizer

from mochi_aot.compiler.checkpoint import parameter_writer
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.layouts import LAYOUTS
from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.parameter_writer import plan
from mochi_aot.compiler.checkpoint.presets import BENCH, PRESETS, TINY
from mochi_aot.compiler.checkpoint.seeded import seeded_parameter
from mochi_aot.compiler.checkpoint.synthetic import checkpoint_bytes, seeded_parameters, write_checkpoint
from mochi_aot.compiler.checkpoint.tensor_writer import split
from mochi_aot.compiler.checkpoint.word_tokenizer import word_tokenizer
from mochi_aot.compiler.reference.config import MochiConfig


def test_diffusers_and_transformers_load_every_component(diffusers_checkpoint: Path) -> None:
    transformer, info = MochiTransformer3DModel.from_pretrained(
        diffusers_checkpoint, subfolder="transformer", output_loading_info=True
    )
    assert not any(info.values())
    assert transformer.config.num_layers == TINY.dit.layers
    vae, info = AutoencoderKLMochi.from_pretrained(diffusers_checkpoint, subfolder="vae", output_loading_info=True)
    assert not any(info.values())
    assert tuple(vae.config.latents_std) == TINY.vae.latents_std
    loaded: Any = T5EncoderModel.from_pretrained(
        diffusers_checkpoint, subfolder="text_encoder", output_loading_info=True
    )
    text, info = loaded
    assert not any(info.values())
    expected = seeded_parameter("text.shared.weight", (512, 64), 0)
    assert torch.equal(text.encoder.embed_tokens.weight, expected)
    tokenizer = T5Tokenizer.from_pretrained(diffusers_checkpoint, subfolder="tokenizer")
    assert tokenizer("a red dog").input_ids == word_tokenizer().encode("a red dog").ids


def test_diffusers_loads_shards(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", TINY, "diffusers", dtype=torch.bfloat16, shard_bytes=1_000_000)
    transformer, info = MochiTransformer3DModel.from_pretrained(
        tmp_path / "x", subfolder="transformer", torch_dtype=torch.bfloat16, output_loading_info=True
    )
    assert not any(info.values())
    expected = seeded_parameter("dit.blocks.1.attn.k_y.weight", (192, 96), 0).bfloat16()
    assert torch.equal(transformer.transformer_blocks[1].attn1.add_k_proj.weight, expected)


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_the_model_behaves(diffusers_checkpoint: Path) -> None:
    """The whole pipeline of diffusers: prompts matter, latents stay of order one, frames are mostly not clipped."""
    pipeline = MochiPipeline.from_pretrained(diffusers_checkpoint)
    pipeline.set_progress_bar_config(disable=True)

    def run(prompt: str, output: str) -> torch.Tensor:
        frames: torch.Tensor = pipeline(
            prompt,
            height=32,
            width=48,
            num_frames=7,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(0),
            output_type=output,
        ).frames
        return frames

    dog, sea = run("a red dog running", "latent"), run("the blue sea at night", "latent")
    assert 0.3 < dog.std() < 10
    assert (dog - sea).std() > 0.2 * dog.std()
    frames = run("a red dog running", "pt")
    assert frames.std() > 0.1
    assert ((frames > 0) & (frames < 1)).float().mean() > 0.5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_arguments_give_the_same_files(layout: str, dtype: torch.dtype, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        write_checkpoint(tmp_path / name, TINY, layout, seed=5, dtype=dtype)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        digests.append(
            {path.relative_to(tmp_path / name): hashlib.sha256(path.read_bytes()).digest() for path in files}
        )
    assert digests[0] == digests[1]


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    seen: list[int] = []
    write_checkpoint(tmp_path / "x", TINY, "genmo", progress=seen.append)
    assert sum(seen) == checkpoint_bytes(TINY, "genmo", torch.float32)
    assert sum(seen) == 4 * sum(prod(shape) for shape in parameter_shapes(TINY).values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_published_model_can_be_planned(layout: str) -> None:
    components = plan(MochiConfig(), layout, seeded_parameters(MochiConfig(), 0), torch.bfloat16)
    shards = {name: split(tensors, parameter_writer.SHARD_BYTES) for name, tensors in components.items()}
    if layout == "diffusers":
        assert {name: len(shard) for name, shard in shards.items()} == {"transformer": 5, "vae": 1, "text_encoder": 2}
    largest = max(tensor.nbytes for tensors in components.values() for tensor in tensors)
    assert largest == 32128 * 4096 * 2  # what bounds the memory of writing: T5's embedding


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_suit_both_original_codebases(preset: str) -> None:
    config = PRESETS[preset]
    for width, hidden in ((config.dit.width, config.dit.hidden), (config.dit.text_width, config.dit.text_hidden)):
        assert 8 * width // 3 == hidden  # diffusers
        assert -(-8 * width // 3 // 256) * 256 == hidden  # Genmo
    channels = config.vae.decoder_channels + config.vae.encoder_channels
    assert all(width % config.vae.groups == 0 for width in channels)
    assert word_tokenizer().get_vocab_size() <= config.text.vocab_size


def test_most_of_bench_is_matrix_products() -> None:
    """Weights of Linear layers that see every visual token, against all of the transformer's."""
    shapes = {name: prod(shape) for name, shape in parameter_shapes(BENCH).items() if name.startswith("dit.blocks")}
    visual = sum(size for name, size in shapes.items() if "_x.weight" in name or ".mlp_x." in name)
    assert visual > 0.4 * sum(shapes.values())


@pytest.mark.parametrize(
    ("layout", "change"),
    [
        ("diffusers", {"dit": replace(TINY.dit, hidden=500)}),
        ("diffusers", {"vae": replace(TINY.vae, decoder_res=(2, 1, 1, 1, 1))}),
        ("diffusers", {"vae": replace(TINY.vae, groups=16)}),
        ("genmo", {"text_length": 128}),
        ("genmo", {"vae": replace(TINY.vae, latents_mean=(0.0,) * 12)}),
    ],
)
def test_a_configuration_that_the_layout_cannot_hold(layout: str, change: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{layout} layout cannot hold"):
        write_checkpoint(tmp_path / "x", replace(TINY, **change), layout)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_seeded_parameters_are_independent_and_known() -> None:
    one = seeded_parameter("dit.blocks.0.mlp_x.gate.weight", (64, 64), 0)
    assert not torch.equal(one, seeded_parameter("dit.blocks.0.mlp_x.gate.weight", (64, 64), 1))
    assert not torch.equal(one, seeded_parameter("dit.blocks.0.mlp_x.up.weight", (64, 64), 0))
    # 4096 draws of deviation 1/8: the sample's deviation is within 1/8 (1 +- 5 / sqrt(2 * 4096)).
    assert abs(float(one.std()) * 8 - 1) < 5 / (2 * 4096) ** 0.5


def test_norms_are_around_one_and_frequencies_in_their_range() -> None:
    for name in ("dit.blocks.0.attn.q_norm_x.weight", "decoder.block_in.0.norm1.weight", "text.x.layer_norm.weight"):
        assert abs(float(seeded_parameter(name, (1000,), 0).mean()) - 1) < 5 * 0.1 / 1000**0.5
    frequencies = seeded_parameter("dit.pos_frequencies", (3, 24, 64), 0)
    assert frequencies.abs().min() >= 10**-2.3 * (1 - 1e-6)
    assert frequencies.abs().max() <= 10**-0.3 * (1 + 1e-6)
    assert 0.4 < float((frequencies > 0).float().mean()) < 0.6
