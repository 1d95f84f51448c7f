"""Checkpoints as people have them: each opens and holds the right numbers, or says in one line what to do."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mochi_aot.compiler.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.checkpoint.wanted import Wanted
from tests.compiler.checkpoint import published
from tests.compiler.checkpoint.published import COMFY, COMFY_TEXT, Tensors, prefixed, remove, save

STEM = "diffusion_pytorch_model"


class Model:
    """The tiny preset in both layouts, its tensors, and what it is in float32 and in bfloat16."""

    def __init__(self, folder: Path) -> None:
        self.diffusers, self.genmo, self.half = (folder / name for name in ("diffusers", "genmo", "half"))
        write_checkpoint(self.diffusers, TINY, "diffusers")
        write_checkpoint(self.genmo, TINY, "genmo")
        write_checkpoint(self.half, TINY, "diffusers", dtype=torch.bfloat16)
        self.dit, self.decoder, self.encoder = (
            load_file(self.genmo / f"{name}.safetensors") for name in ("dit", "decoder", "encoder")
        )
        self.text = load_file(self.genmo / "text_encoder" / "model.safetensors")
        self.tokenizer = self.genmo / "tokenizer"
        self.float32 = fingerprints(open_checkpoint(self.diffusers))
        self.bfloat16 = fingerprints(open_checkpoint(self.half))
        self.published = published.publish(self.diffusers, self.genmo, folder / "published")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(tmp_path_factory.mktemp("published"))


@pytest.fixture
def repository(model: Model, tmp_path: Path) -> Path:
    """The published repository, whose files a test may remove: linked, not copied."""
    return Path(shutil.copytree(model.published, tmp_path / "mochi", copy_function=lambda a, b: Path(b).hardlink_to(a)))


def fingerprints(checkpoint: Checkpoint) -> dict[str, str]:
    return {name: checkpoint.fingerprint(name) for name in checkpoint.names()}


def without(prefix: str, found: dict[str, str]) -> dict[str, str]:
    return {name: fingerprint for name, fingerprint in found.items() if not name.startswith(prefix)}


def only(prefix: str, found: dict[str, str]) -> dict[str, str]:
    return {name: fingerprint for name, fingerprint in found.items() if name.startswith(prefix)}


# ---- the published repository, whole and in part


def test_the_whole_repository(model: Model) -> None:
    checkpoint = open_checkpoint(model.published)
    root = model.published
    assert fingerprints(checkpoint) == model.float32
    assert (checkpoint.layout, checkpoint.origin["variant"], checkpoint.origin["dtype"]) == (
        "diffusers",
        "none",
        "float32",
    )
    assert checkpoint.notes == (
        f"{root}: Diffusers' layout is taken, and Genmo's is there too: --layout genmo takes it",
        f"{root}/transformer: the plain weights are taken, and there is variant bf16 too: --variant takes it",
        f"{root}/vae: the plain weights are taken, and there is variant bf16 too: --variant takes it",
    )


def test_its_bfloat16_variant(model: Model) -> None:
    """T5 has none there; the rotary frequencies are float32 in the plain files."""
    checkpoint = open_checkpoint(model.published, wanted=Wanted(variant="bf16"))
    expected = without("text.", model.bfloat16) | only("text.", model.float32)
    assert fingerprints(checkpoint) == expected
    assert checkpoint.origin["variant"] == "transformer bf16, vae bf16, text_encoder none"
    assert f"{model.published}/text_encoder has no variant bf16: the plain weights are taken" in checkpoint.notes


def test_its_genmo_layout(model: Model) -> None:
    checkpoint = open_checkpoint(model.published, wanted=Wanted(layout="genmo"))
    assert (checkpoint.layout, "variant" in checkpoint.origin, checkpoint.notes) == ("genmo", False, ())
    assert fingerprints(checkpoint) == model.float32


def test_only_the_bfloat16_files_with_all_indexes(model: Model, repository: Path) -> None:
    """As huggingface-cli leaves them with an exclusion: the plain index names shards that are not there."""
    remove(repository, f"transformer/{STEM}-*", f"vae/{STEM}.safetensors", "*.safetensors")
    checkpoint = open_checkpoint(repository)
    assert only("decoder.", fingerprints(checkpoint)) == only("decoder.", model.bfloat16)
    assert checkpoint.dtype("dit.blocks.0.attn.q_x.weight") == "bfloat16"
    assert f"{repository}/transformer: variant bf16 is taken, the only one that is whole" in checkpoint.notes


def test_only_the_float32_files_with_all_indexes(model: Model, repository: Path) -> None:
    remove(repository, f"*/{STEM}.bf16*", "*.safetensors")
    checkpoint = open_checkpoint(repository)
    assert fingerprints(checkpoint) == model.float32 and checkpoint.notes == ()
    with pytest.raises(CheckpointError, match=r"bf16-00003-of-00003\.safetensors are missing, which .*bf16\.json"):
        open_checkpoint(repository, wanted=Wanted(variant="bf16"))


def test_genmos_files_in_a_folder_with_an_index(model: Model, repository: Path) -> None:
    """model_index.json came along with dit, decoder and encoder."""
    shutil.rmtree(repository / "vae")
    remove(repository, "transformer/*.safetensors")
    checkpoint = open_checkpoint(repository)
    assert checkpoint.layout == "genmo" and fingerprints(checkpoint) == model.float32
    assert "Genmo's layout is taken, since Diffusers' is incomplete: " in checkpoint.notes[0]
    with pytest.raises(CheckpointError, match="are missing, which"):
        open_checkpoint(repository, wanted=Wanted(layout="diffusers"))


def test_a_shard_is_missing(repository: Path) -> None:
    remove(repository, "*/*bf16*", f"transformer/{STEM}-00002*", "dit.safetensors")
    with pytest.raises(CheckpointError, match=f"{STEM}-00002-of-00005.safetensors is missing, which {STEM}") as error:
        open_checkpoint(repository)
    assert "\n" not in str(error.value)


def test_a_layout_or_variant_that_is_not_there(model: Model) -> None:
    with pytest.raises(CheckpointError, match=r"has no model_index\.json: it is not in Diffusers' layout"):
        open_checkpoint(model.genmo, wanted=Wanted(layout="diffusers"))
    with pytest.raises(CheckpointError, match=r"is in no known layout|no dit\.safetensors"):
        open_checkpoint(model.diffusers, wanted=Wanted(layout="genmo"))
    with pytest.raises(CheckpointError, match="has no weights of variant fp16"):
        open_checkpoint(model.published, wanted=Wanted(variant="fp16"))


# ---- earlier releases


def test_genmos_first_release(model: Model, tmp_path: Path) -> None:
    """vae.safetensors is the decoder alone, decoder_stats.json its published statistics; there is no encoder."""
    save(tmp_path / "dit.safetensors", model.dit)
    save(tmp_path / "vae.safetensors", model.decoder)
    checkpoint = open_checkpoint(tmp_path, model.genmo)
    assert fingerprints(checkpoint) == without("encoder.", model.float32)
    assert not checkpoint.config.vae.has_encoder
    assert (checkpoint.config.vae.time_factors, checkpoint.config.vae.space_factors) == ((1, 2, 3), (2, 2, 2))


def test_diffusers_first_vae(model: Model, tmp_path: Path, edit_json: Callable[..., None]) -> None:
    """Of diffusers 0.32's development: a decoder alone, whose channels are block_out_channels and whose last layer is
    conv_out."""
    root = Path(shutil.copytree(model.diffusers, tmp_path / "mochi"))
    weights = load_file(root / "vae" / f"{STEM}.safetensors")
    decoder = {key: tensor for key, tensor in weights.items() if key.startswith("decoder.")}
    save(
        root / "vae" / f"{STEM}.safetensors",
        {key.replace("decoder.proj_out.", "decoder.conv_out."): tensor for key, tensor in decoder.items()},
    )
    (root / "vae" / "config.json").write_text(
        '{"_class_name": "AutoencoderKLMochi", "act_fn": "silu", "block_out_channels": [32, 32, 64, 64], '
        '"latent_channels": 12, "layers_per_block": [1, 1, 1, 1, 1], "out_channels": 3, "scaling_factor": 1.0, '
        '"spatial_expansions": [2, 2, 2], "temporal_expansions": [1, 2, 3]}'
    )
    checkpoint = open_checkpoint(root)
    assert fingerprints(checkpoint) == without("encoder.", model.float32)
    assert checkpoint.config.vae.decoder_channels == (32, 32, 64, 64) and not checkpoint.config.vae.has_encoder


# ---- single files


def comfy(model: Model, folder: Path, dtype: torch.dtype, prefix: bool) -> Wanted:
    """ComfyUI's three files, in folders of their kinds."""
    dit, decoder, encoder = (published.cast(part, dtype) for part in (model.dit, model.decoder, model.encoder))
    vae = prefixed("decoder.", decoder) | prefixed("encoder.", encoder)
    return Wanted(
        transformer=save(
            folder / "diffusion_models" / "mochi_preview.safetensors", prefixed(COMFY["dit"] if prefix else "", dit)
        ),
        vae=save(folder / "vae" / "mochi_vae.safetensors", prefixed("vae." if prefix else "", vae)),
        text_encoder=save(
            folder / "text_encoders" / "t5xxl.safetensors",
            prefixed(COMFY_TEXT if prefix else "", published.cast(model.text, dtype)),
        ),
        tokenizer=model.tokenizer,
    )


@pytest.mark.parametrize("prefix", [False, True], ids=["bare", "prefixed"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_comfyuis_single_files(model: Model, tmp_path: Path, dtype: torch.dtype, prefix: bool) -> None:
    checkpoint = open_checkpoint(None, wanted=comfy(model, tmp_path, dtype, prefix))
    assert checkpoint.config == open_checkpoint(model.diffusers).config  # T5's sizes too, which are of its shapes alone
    assert checkpoint.origin["dtype"] == str(dtype).removeprefix("torch.")
    for name, key, tensors in (
        ("dit.blocks.1.mlp_x.down.weight", "blocks.1.mlp_x.w2.weight", model.dit),
        ("decoder.proj_out.bias", "output_proj.bias", model.decoder),
        ("encoder.proj_out.weight", "output_proj.weight", model.encoder),
        ("text.shared.weight", "shared.weight", model.text),
    ):
        assert torch.equal(checkpoint.read(name), tensors[key].to(dtype).reshape(checkpoint.shape(name)))


def test_comfyuis_checkpoint_in_one_file(model: Model, tmp_path: Path) -> None:
    """all_in_one/mochi_preview_fp8_scaled.safetensors has the decoder, and T5 among other things of its kind."""
    parts = (
        prefixed(COMFY["dit"], model.dit),
        prefixed(COMFY["decoder"], model.decoder),
        prefixed(COMFY_TEXT, model.text),
        {"text_encoders.t5xxl.logit_scale": torch.ones(())},
    )
    path = save(tmp_path / "mochi.safetensors", {key: tensor for part in parts for key, tensor in part.items()})
    checkpoint = open_checkpoint(path, wanted=Wanted(tokenizer=model.tokenizer))
    assert fingerprints(checkpoint) == without("encoder.", model.float32)
    with pytest.raises(CheckpointError, match=r"no tokenizer .*--tokenizer"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["dit.fast.safetensors", "mochi-finetuned.safetensors"])
def test_a_transformer_of_another_name(model: Model, tmp_path: Path, name: str) -> None:
    """In the folder it is found by what it holds; beside dit.safetensors its name has to be said."""
    other = save(tmp_path / name, {key: tensor + 1 for key, tensor in model.dit.items()})
    for part in ("decoder", "encoder"):
        save(tmp_path / f"{part}.safetensors", getattr(model, part))
    found = open_checkpoint(tmp_path, model.genmo)
    save(tmp_path / "dit.safetensors", model.dit)
    beside, named = (open_checkpoint(tmp_path, model.genmo, wanted=Wanted(transformer=path)) for path in (None, other))
    assert fingerprints(beside) == model.float32
    assert found.identity() == named.identity() != beside.identity()
    remove(tmp_path, "dit.safetensors")
    save(tmp_path / "again.safetensors", model.dit)
    with pytest.raises(CheckpointError, match=r"several files with a transformer \(.*\): name one with --transformer"):
        open_checkpoint(tmp_path, model.genmo)


def test_a_decoder_is_named_and_its_encoder_lies_beside_it(model: Model) -> None:
    wanted = Wanted(vae=model.genmo / "decoder.safetensors")
    assert fingerprints(open_checkpoint(model.diffusers, wanted=wanted)) == model.float32


def test_parts_of_both_layouts(model: Model) -> None:
    """Genmo's transformer, Diffusers' VAE: each by its own keys."""
    wanted = Wanted(transformer=model.genmo / "dit.safetensors", text_encoder=model.genmo)
    checkpoint = open_checkpoint(model.diffusers, wanted=wanted)
    assert fingerprints(checkpoint) == model.float32
    assert (checkpoint.layout, checkpoint.origin["vae_layout"]) == ("genmo", "diffusers")
    wanted = Wanted(transformer=model.diffusers / "transformer", vae=model.diffusers / "vae")
    assert fingerprints(open_checkpoint(model.genmo, wanted=wanted)) == model.float32


def test_parts_alone(model: Model) -> None:
    """Folders without a checkpoint around them; whatever is not named is asked for."""
    wanted = Wanted(transformer=model.diffusers / "transformer", vae=model.diffusers / "vae")
    named = replace(wanted, text_encoder=model.diffusers / "text_encoder")
    assert fingerprints(open_checkpoint(None, wanted=named)) == model.float32
    with pytest.raises(CheckpointError, match="transformer holds the transformer alone: give T5 with --text-enc"):
        open_checkpoint(None, wanted=wanted)
    with pytest.raises(CheckpointError, match="transformer holds the transformer alone: give the VAE with --vae"):
        open_checkpoint(None, wanted=replace(named, vae=None))


# ---- eight bits


def every_code(dtype: torch.dtype) -> torch.Tensor:
    """All finite numbers of a dtype of eight bits: [n, 1]."""
    values = torch.arange(256, dtype=torch.uint8).view(dtype)
    return values[torch.isfinite(values.float())].reshape(-1, 1)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_are_read_exactly(model: Model, tmp_path: Path, dtype: torch.dtype) -> None:
    """Every number of the dtype is one of bfloat16, as torch itself casts it."""
    codes = every_code(dtype)
    dit = published.cast(model.dit, dtype)
    key = "blocks.0.mlp_x.w2.weight"
    dit[key] = codes.repeat(1 + dit[key].numel() // len(codes), 1).flatten()[: dit[key].numel()].reshape(dit[key].shape)
    path = save(tmp_path / "mochi_preview_fp8.safetensors", dit)
    checkpoint = open_checkpoint(model.genmo, wanted=Wanted(transformer=path))
    read = checkpoint.read("dit.blocks.0.mlp_x.down.weight")
    assert read.dtype == torch.bfloat16 and torch.equal(read.double(), dit[key].double())
    stored = str(dtype).removeprefix("torch.")
    assert checkpoint.notes == (
        f"{path}: pos_frequencies is {stored}; the float32 one in {model.genmo}/dit.safetensors is used",
        f"{path}: {len(dit)} tensors of {stored} are read as bfloat16, exactly",
    )
    assert torch.equal(checkpoint.read("dit.pos_frequencies"), model.dit["pos_frequencies"])


def nearest_bfloat16(exact: np.ndarray) -> np.ndarray:
    """Round float64 to bfloat16, ties to even, by the numbers on either side."""
    below = torch.from_numpy(exact).float().numpy().view(np.uint32) & 0xFFFF0000  # cut off: towards zero
    low, high = (bits.astype(np.uint32).view(np.float32).astype(np.float64) for bits in (below, below + 0x10000))
    nearer_high = np.abs(exact - high) < np.abs(exact - low)
    tie = np.abs(exact - high) == np.abs(exact - low)
    return np.where(nearer_high | (tie & ((below >> 16) % 2 == 1)), high, low)


@pytest.mark.parametrize("scale_key", ["scale_weight", "weight_scale"])
def test_scaled_eight_bits_are_rounded_once(model: Model, tmp_path: Path, scale_key: str) -> None:
    text = published.scaled_fp8(model.text, lambda key: "DenseReluDense" in key)
    text = {key.replace("scale_weight", scale_key): tensor for key, tensor in text.items()}
    text["encoder.block.0.layer.1.DenseReluDense.wo.scale_input"] = torch.ones(())  # of activations: not used
    path = save(tmp_path / "t5xxl_fp8_e4m3fn_scaled.safetensors", text)
    checkpoint = open_checkpoint(model.genmo, wanted=Wanted(text_encoder=path, tokenizer=model.tokenizer))
    for layer in ("wi_0", "wi_1", "wo"):
        key = f"encoder.block.1.layer.1.DenseReluDense.{layer}"
        exact = text[f"{key}.weight"].double().numpy() * float(text[f"{key}.{scale_key}"])
        read = checkpoint.read(f"text.{key}.weight")
        assert read.dtype == torch.bfloat16 and np.array_equal(read.double().numpy(), nearest_bfloat16(exact))
    assert f"{path}: 6 tensors of float8_e4m3fn are read as bfloat16, times its scale, rounded once" in checkpoint.notes


def test_another_scale_is_another_model(model: Model, tmp_path: Path) -> None:
    text = published.scaled_fp8(model.text, lambda key: key.endswith("wo.weight"))
    found = []
    for factor in (1.0, 1.5):
        text |= {key: tensor * factor for key, tensor in text.items() if key.endswith("scale_weight")}
        path = save(tmp_path / f"t5-{factor}.safetensors", text)
        found.append(open_checkpoint(model.genmo, path, wanted=Wanted(tokenizer=model.tokenizer)).identity())
    assert found[0] != found[1]


def broken_scale(text: Tensors) -> str:
    text["encoder.block.0.layer.1.DenseReluDense.wo.scale_weight"] = torch.ones(64)
    return r"wo\.scale_weight is F32 \[64\], and scales of one number are read: take the bf16 or fp16 file"


def scale_of_nothing(text: Tensors) -> str:
    text["encoder.block.9.scale_weight"] = torch.ones(())
    return r"encoder\.block\.9\.weight has a scale, but is no weight of eight bits"


def four_bits(text: Tensors) -> str:
    note = np.frombuffer(b'{"format": "nvfp4"}', np.uint8).copy()
    text["encoder.block.0.layer.1.DenseReluDense.wo.comfy_quant"] = torch.from_numpy(note)
    return r"comfy_quant says nvfp4, and of such formats float8_e4m3fn, float8_e5m2 are read: take the bf16 file"


@pytest.mark.parametrize("spoil", [broken_scale, scale_of_nothing, four_bits])
def test_other_scales_are_refused(model: Model, tmp_path: Path, spoil: Callable[[Tensors], str]) -> None:
    text = published.scaled_fp8(model.text, lambda key: key.endswith("wo.weight"))
    message = spoil(text)
    path = save(tmp_path / "t5.safetensors", text)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(model.genmo, path, wanted=Wanted(tokenizer=model.tokenizer))


# ---- GGUF


def matrices(tensors: Tensors) -> list[str]:
    """What people's converters quantise: matrices of blocks, whose rows are whole blocks of 32."""
    return [key for key, tensor in tensors.items() if "block" in key and tensor.ndim == 2 and tensor.shape[1] % 32 == 0]


@pytest.mark.parametrize("kind", ["Q8_0", "F16", "BF16"])
def test_gguf(model: Model, tmp_path: Path, kind: str) -> None:
    """Read as the package itself dequantises what it has quantised; any rows of it."""
    path = published.save_gguf(tmp_path / f"mochi-{kind}.gguf", model.dit, matrices(model.dit), kind)
    checkpoint = open_checkpoint(model.genmo, wanted=Wanted(transformer=path))
    dtype = gguf.GGMLQuantizationType[kind]
    for name, key in (("dit.blocks.1.mlp_x.down.weight", "blocks.1.mlp_x.w2.weight"), ("dit.final.proj.bias", "")):
        if not key:
            assert torch.equal(checkpoint.read(name), model.dit["final_layer.linear.bias"])
            continue
        expected = gguf.dequantize(gguf.quantize(model.dit[key].numpy(), dtype), dtype)
        assert np.array_equal(checkpoint.read(name).float().numpy(), expected)
        assert np.array_equal(checkpoint.read(name, (slice(5, 9),)).float().numpy(), expected[5:9])
    assert checkpoint.dtype("dit.blocks.1.mlp_x.down.weight") == {"Q8_0": "float32", "F16": "float16"}.get(
        kind, "bfloat16"
    )


def test_q8_0_by_its_definition(model: Model, tmp_path: Path) -> None:
    """A block is a float16 number and 32 whole numbers, in this order, which it is to be multiplied by."""
    key = "blocks.0.attn.proj_x.weight"
    path = published.save_gguf(tmp_path / "mochi.gguf", model.dit, [key], "Q8_0")
    blocks = gguf.quantize(model.dit[key].numpy(), gguf.GGMLQuantizationType.Q8_0).reshape(-1, 34)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    expected = (scales * blocks[:, 2:].copy().view(np.int8)).reshape(model.dit[key].shape)
    checkpoint = open_checkpoint(model.genmo, wanted=Wanted(transformer=path))
    assert np.array_equal(checkpoint.read("dit.blocks.0.attn.proj_x.weight").numpy(), expected)
    # The largest of 32 numbers is 127 steps, and a number is at most half a step away, the step itself rounded to
    # float16: by 2^-11 of 127 steps.
    step = model.dit[key].reshape(-1, 32).abs().amax(1, keepdim=True) / 127
    error = (torch.from_numpy(expected) - model.dit[key]).reshape(-1, 32).abs()
    assert (error <= step * (0.5 + 127 * 2.0**-11)).all() and error.max() > 0


LLAMA = {
    "encoder.block.": "enc.blk.",
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.0.SelfAttention.": "attn_",
    "layer.0.layer_norm": "attn_norm",
    "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wo": "ffn_down",
    "layer.1.layer_norm": "ffn_norm",
    "encoder.final_layer_norm": "enc.output_norm",
    "shared": "token_embd",
}


def test_t5_of_llama_cpp(model: Model, tmp_path: Path) -> None:
    renamed = {}
    for key, tensor in model.text.items():
        for ours, theirs in LLAMA.items():
            key = key.replace(ours, theirs)
        renamed[key] = tensor
    path = published.save_gguf(tmp_path / "t5-v1_1-xxl-encoder-f32.gguf", renamed, (), "F32", arch="t5encoder")
    checkpoint = open_checkpoint(model.genmo, path, wanted=Wanted(tokenizer=model.tokenizer))
    assert fingerprints(checkpoint) == model.float32


def test_other_types_are_refused_by_name(model: Model, tmp_path: Path) -> None:
    path = published.save_gguf(tmp_path / "mochi.gguf", model.dit, matrices(model.dit)[:2], "Q4_0")
    message = r"mochi\.gguf has tensors of type Q4_0, and of GGUF's types F32, F16, BF16, Q8_0 are read: take the q8_0"
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(model.genmo, wanted=Wanted(transformer=path))


@pytest.mark.parametrize("held", [4, 20, 4000, -1])
def test_a_gguf_file_that_was_cut_off(model: Model, tmp_path: Path, held: int) -> None:
    path = published.save_gguf(tmp_path / "mochi.gguf", model.dit, (), "F16")
    path.write_bytes(path.read_bytes()[:held])
    with pytest.raises(CheckpointError, match=r"mochi\.gguf is not a whole GGUF file \(.*\): copy it again"):
        open_checkpoint(model.genmo, wanted=Wanted(transformer=path))


def test_damaged_headers_of_gguf(model: Model, tmp_path: Path) -> None:
    """Are read, or refused in one line, whichever bytes changed: whatever the library makes of them."""
    small = {"a.weight": torch.ones(2, 32), "b": torch.zeros(3)}
    whole = published.save_gguf(tmp_path / "whole.gguf", small, ["a.weight"], "Q8_0").read_bytes()
    random, path, refused = np.random.default_rng(0), tmp_path / "mochi.gguf", 0
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(4, 200, 2):  # behind the mark; the header has about 200 bytes
            data[place] = random.integers(256)
        path.write_bytes(data)
        try:
            TensorFile(path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


# ---- what cannot be used


POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n"
)


@pytest.mark.parametrize(
    "name", ["transformer/config.json", f"vae/{STEM}.safetensors", "tokenizer/tokenizer.json", "model_index.json"]
)
def test_pointers_of_git_lfs(model: Model, tmp_path: Path, name: str) -> None:
    root = Path(shutil.copytree(model.diffusers, tmp_path / "mochi"))
    (root / name).write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=f"{name} is a Git LFS pointer, not the file itself: run git lfs pull"):
        open_checkpoint(root).tokenizer_json()


def test_a_file_that_was_cut_off(model: Model, tmp_path: Path) -> None:
    whole = (model.genmo / "decoder.safetensors").read_bytes()
    path = tmp_path / "decoder.safetensors"
    for held, reason in ((0, "it is empty"), (len(whole) // 2, f"it has {len(whole) // 2} bytes of {len(whole)}")):
        path.write_bytes(whole[:held])
        with pytest.raises(CheckpointError, match=rf"is not a whole safetensors file \({reason}\): copy it again"):
            open_checkpoint(model.genmo, wanted=Wanted(vae=path))


def test_what_is_wrong_with_files_of_a_folder_is_told(model: Model, tmp_path: Path) -> None:
    """Where none of them can be the transformer."""
    (tmp_path / "mochi.safetensors").write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=r"no known layout.*found mochi\.safetensors: .* is a Git LFS pointer"):
        open_checkpoint(tmp_path, model.genmo)


def test_files_of_other_kinds(model: Model, tmp_path: Path) -> None:
    """Under names that promise something else: one line, which says what they hold."""
    page, lora = tmp_path / "page.safetensors", tmp_path / "lora.safetensors"
    page.write_bytes(b"<!DOCTYPE html><html>401</html>")
    save(lora, {"blocks.0.attn.qkv_x.lora_A.weight": torch.zeros(2, 2)})
    pickle = tmp_path / "mochi.safetensors"
    torch.save(model.decoder, pickle)
    for path, message in (
        (page, r"page\.safetensors is a web page, not weights"),
        (pickle, r"mochi\.safetensors is a file of torch\.save, .*: convert it with python -c"),
        (lora, r"lora\.safetensors holds a LoRA, and is merged into one with --lora, expected a transformer"),
        (model.genmo / "decoder.safetensors", r"holds a VAE's decoder, expected a transformer"),
        (model.genmo / "text_encoder" / "model.safetensors", r"holds a T5 encoder, expected a transformer"),
        (tmp_path / "gone.safetensors", r"gone\.safetensors is missing"),
    ):
        with pytest.raises(CheckpointError, match=message) as error:
            open_checkpoint(model.genmo, wanted=Wanted(transformer=path))
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"dit\.safetensors holds a transformer, expected a VAE"):
        open_checkpoint(model.genmo, wanted=Wanted(vae=model.genmo / "dit.safetensors"))


def test_t5_as_pytorch_model_bin(model: Model, tmp_path: Path) -> None:
    """The command that the error gives makes a folder that can be used."""
    folder = tmp_path / "t5-v1_1-xxl"
    shutil.copytree(model.genmo / "text_encoder", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(model.text, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(model.genmo, wanted=Wanted(text_encoder=folder, tokenizer=model.tokenizer))
    _, _, rest = str(error.value).partition('convert T5 with python -c "')
    command, _, advice = rest.partition('" and give --text-encoder ')
    assert advice == f"{folder}-safetensors"
    exec(command, {})
    checkpoint = open_checkpoint(model.genmo, wanted=Wanted(text_encoder=Path(advice), tokenizer=model.tokenizer))
    assert fingerprints(checkpoint) == model.float32
