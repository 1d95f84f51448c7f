import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mochi_aot.compiler.checkpoint import CheckpointError, open_checkpoint
from mochi_aot.compiler.checkpoint.checkpoint import Checkpoint
from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.seeded import seeded_parameter
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint

LAYOUTS = ["diffusers", "genmo"]
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"

Edit = Callable[[Path, Callable[[dict[str, torch.Tensor]], None]], None]


@pytest.fixture(params=LAYOUTS)
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(f"{request.param}_checkpoint")
    return path


@pytest.fixture
def checkpoint(folder: Path) -> Checkpoint:
    return open_checkpoint(folder)


def test_configuration_names_and_shapes(checkpoint: Checkpoint, folder: Path) -> None:
    assert checkpoint.layout == folder.name
    assert checkpoint.config == TINY
    assert {name: checkpoint.shape(name) for name in checkpoint.names()} == parameter_shapes(TINY)
    assert {checkpoint.dtype(name) for name in checkpoint.names()} == {"float32"}


def test_every_parameter_is_bit_equal_to_what_was_written(checkpoint: Checkpoint) -> None:
    for name, shape in parameter_shapes(TINY).items():
        assert torch.equal(checkpoint.read(name), seeded_parameter(name, shape, 0)), name


def test_bfloat16_keeps_the_frequencies_in_float32(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", TINY, "genmo", seed=3, dtype=torch.bfloat16)
    checkpoint = open_checkpoint(tmp_path / "x")
    for name, shape in parameter_shapes(TINY).items():
        expected = seeded_parameter(name, shape, 3)
        if name == "dit.pos_frequencies":
            assert checkpoint.dtype(name) == "float32"
        else:
            assert checkpoint.dtype(name) == "bfloat16"
            expected = expected.bfloat16()
        assert torch.equal(checkpoint.read(name), expected), name


def test_the_two_layouts_differ_as_the_original_codebases_do(
    genmo_checkpoint: Path, diffusers_checkpoint: Path
) -> None:
    """The same model, so one file's tensors follow from the other's: the known facts, applied by hand."""
    dit = load_file(genmo_checkpoint / "dit.safetensors")
    transformer = load_file(diffusers_checkpoint / "transformer" / DIFFUSERS_WEIGHTS)
    q, k, v = dit["blocks.0.attn.qkv_x.weight"].chunk(3)
    for name, tensor in {"q": q, "k": k, "v": v}.items():
        assert torch.equal(transformer[f"transformer_blocks.0.attn1.to_{name}.weight"], tensor)
    gate, up = dit["blocks.0.mlp_y.w1.weight"].chunk(2)
    assert torch.equal(transformer["transformer_blocks.0.ff_context.net.0.proj.weight"], torch.cat([up, gate]))
    shift, scale = dit["final_layer.mod.weight"].chunk(2)
    assert torch.equal(transformer["norm_out.linear.weight"], torch.cat([scale, shift]))
    for ours, theirs in {
        "blocks.0.mod_x.weight": "transformer_blocks.0.norm1.linear.weight",
        "blocks.1.mod_y.bias": "transformer_blocks.1.norm1_context.linear_1.bias",
        "x_embedder.proj.weight": "patch_embed.proj.weight",
    }.items():
        assert torch.equal(dit[ours], transformer[theirs])
    encoder = load_file(genmo_checkpoint / "encoder.safetensors")
    vae = load_file(diffusers_checkpoint / "vae" / DIFFUSERS_WEIGHTS)
    _, k, _ = encoder["layers.2.layers.1.attn_block.attn.qkv.weight"].chunk(3)
    assert torch.equal(vae["encoder.down_blocks.0.attentions.0.to_k.weight"], k)


INDEXED = ["dit.blocks.0.attn.k_x.weight", "dit.patch_embed.weight", "decoder.conv_in.weight", "decoder.conv_in.bias"]


@given(st.sampled_from([*INDEXED, "encoder.down.1.conv.weight"]), st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_part_equals_the_same_part_of_the_whole(checkpoint: Checkpoint, name: str, data: st.DataObject) -> None:
    shape = checkpoint.shape(name)
    bounds = [st.none() | st.integers(-size - 1, size + 1) for size in shape]
    index = tuple(
        slice(data.draw(bound), data.draw(bound)) for bound in bounds[: data.draw(st.integers(0, len(shape)))]
    )
    part = checkpoint.read(name, index)
    assert torch.equal(part, checkpoint.read(name)[index])
    assert part.is_contiguous()
    assert part.untyped_storage().nbytes() == part.nbytes


def test_rows_have_no_step(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="without a step"):
        checkpoint.read("decoder.conv_in.weight", (slice(0, 8, 2),))


def test_an_unknown_name(checkpoint: Checkpoint) -> None:
    with pytest.raises(KeyError):
        checkpoint.read("dit.nothing")


def test_shards_read_as_a_whole_file_does(tmp_path: Path, diffusers_checkpoint: Path) -> None:
    write_checkpoint(tmp_path / "sharded", TINY, "diffusers", shard_bytes=2_000_000)
    assert len(list((tmp_path / "sharded" / "transformer").glob("*-of-*.safetensors"))) > 2
    sharded, whole = open_checkpoint(tmp_path / "sharded"), open_checkpoint(diffusers_checkpoint)
    assert sharded.names() == whole.names()
    assert all(torch.equal(sharded.read(name), whole.read(name)) for name in whole.names())


def test_identity_follows_the_content_and_neither_place_nor_layout(
    diffusers_checkpoint: Path, diffusers_copy: Path, genmo_checkpoint: Path, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "other", TINY, "diffusers", seed=1)
    identity = open_checkpoint(diffusers_checkpoint).identity()
    assert len(identity) == 64
    assert open_checkpoint(diffusers_copy).identity() == identity
    assert open_checkpoint(tmp_path / "other").identity() != identity
    assert open_checkpoint(genmo_checkpoint).identity() == identity  # one model, laid out in two ways


def test_a_fingerprint_is_of_every_number_as_it_is_stored(checkpoint: Checkpoint) -> None:
    """Against BLAKE3 of the tensor's bytes; every element is one that a changed bit tells."""
    for name in checkpoint.names():
        tensor = checkpoint.read(name)
        digest = blake3(tensor.contiguous().numpy().tobytes()).hexdigest()
        assert checkpoint.fingerprint(name) == f"float32 {list(tensor.shape)} {digest}"


@pytest.mark.parametrize("third", [0, 1, 2])
def test_identity_notices_one_number(
    third: int, diffusers_checkpoint: Path, diffusers_copy: Path, edit_tensors: Edit
) -> None:
    """Of the largest tensor, of which samples would see little."""

    def tune(tensors: dict[str, torch.Tensor]) -> None:
        flat = max(tensors.values(), key=lambda tensor: tensor.numel()).reshape(-1)
        flat[third * len(flat) // 3 + 1] += 1

    edit_tensors(diffusers_copy / "transformer" / DIFFUSERS_WEIGHTS, tune)
    before, after = open_checkpoint(diffusers_checkpoint), open_checkpoint(diffusers_copy)
    changed = [name for name in after.names() if not torch.equal(after.read(name), before.read(name))]
    assert len(changed) == 1
    assert [name for name in after.names() if after.fingerprint(name) != before.fingerprint(name)] == changed
    assert after.identity() != before.identity()


def test_identity_notices_another_config(diffusers_copy: Path, edit_json: Callable[..., None]) -> None:
    before = open_checkpoint(diffusers_copy).identity()
    edit_json(diffusers_copy / "text_encoder" / "config.json", layer_norm_epsilon=1e-5)
    assert open_checkpoint(diffusers_copy).identity() != before


# Files that change while they are read.


def rewritten(path: Path) -> None:
    """The same bytes in a file of its own, as a download that is moved into place."""
    shutil.copy(path, path.with_name("new"))
    path.with_name("new").replace(path)


def touched(path: Path) -> None:
    os.utime(path)


def changed_with_its_time_set_back(path: Path) -> None:
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [rewritten, touched, changed_with_its_time_set_back])
def test_a_file_that_changes_is_noticed(change: Callable[[Path], None], diffusers_copy: Path) -> None:
    checkpoint = open_checkpoint(diffusers_copy)
    checkpoint.fingerprint("decoder.conv_in.bias")
    path = diffusers_copy / "vae" / DIFFUSERS_WEIGHTS
    time.sleep(0.02)  # a tick of the clock that file systems take times from
    change(path)
    with pytest.raises(CheckpointError, match=f"{path} was changed while it was read"):
        checkpoint.fingerprint("decoder.conv_in.bias")
    checkpoint.fingerprint("text.shared.weight")  # another file
    with pytest.raises(CheckpointError, match="compile it when nothing writes to it"):
        checkpoint.identity()


def test_a_file_that_goes_is_noticed(diffusers_copy: Path) -> None:
    checkpoint = open_checkpoint(diffusers_copy)
    path = diffusers_copy / "vae" / DIFFUSERS_WEIGHTS
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{path} has gone while it was read"):
        checkpoint.identity()


def test_the_tokenizer_comes_with_the_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    assert checkpoint.tokenizer == folder / "tokenizer"
    assert checkpoint.tokenizer_json() == (folder / "tokenizer" / "tokenizer.json").read_bytes()


# Where T5 is.


@pytest.fixture
def genmo_alone(genmo_copy: Path, tmp_path: Path) -> Path:
    """Genmo's three files, with T5 and its tokenizer moved to the sibling folder t5/."""
    (tmp_path / "t5").mkdir()
    for name in ("text_encoder", "tokenizer"):
        shutil.move(genmo_copy / name, tmp_path / "t5" / name)
    return genmo_copy


def test_genmo_without_t5_asks_for_it(genmo_alone: Path) -> None:
    with pytest.raises(CheckpointError, match=r"genmo has no text_encoder/: give T5's folder with --text-encoder"):
        open_checkpoint(genmo_alone)


@pytest.mark.parametrize("given", ["t5", "t5/text_encoder"])
def test_t5_from_elsewhere(genmo_alone: Path, given: str, genmo_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(genmo_alone, genmo_alone.parent / given)
    assert checkpoint.tokenizer.resolve() == genmo_alone.parent / "t5" / "tokenizer"
    assert checkpoint.identity() == open_checkpoint(genmo_checkpoint).identity()


def test_t5_and_its_tokenizer_in_one_folder(genmo_alone: Path) -> None:
    t5 = genmo_alone.parent / "t5"
    for path in (t5 / "tokenizer").iterdir():
        shutil.move(path, t5 / "text_encoder")
    (t5 / "tokenizer").rmdir()
    assert open_checkpoint(genmo_alone, t5 / "text_encoder").tokenizer == t5 / "text_encoder"


def test_a_folder_that_is_no_text_encoder(genmo_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing is no text encoder: expected config\.json or text_encoder/"):
        open_checkpoint(genmo_copy, tmp_path / "nothing")


def test_diffusers_layout_without_t5(diffusers_copy: Path) -> None:
    shutil.rmtree(diffusers_copy / "text_encoder")
    with pytest.raises(CheckpointError, match="has no text_encoder/: the checkpoint is incomplete"):
        open_checkpoint(diffusers_copy)


def test_t5_without_a_tokenizer(genmo_alone: Path) -> None:
    shutil.rmtree(genmo_alone.parent / "t5" / "tokenizer")
    with pytest.raises(CheckpointError, match=r"no tokenizer \(tokenizer\.json or spiece\.model\) in any of"):
        open_checkpoint(genmo_alone, genmo_alone.parent / "t5")


def _rename(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors[new] = tensors.pop(old)

    return rename


def _add(**extra: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({key.replace("__", "."): value for key, value in extra.items()})


def test_either_of_the_tied_embeddings_will_do(diffusers_copy: Path, edit_tensors: Edit) -> None:
    expected = open_checkpoint(diffusers_copy).read("text.shared.weight")
    edit_tensors(
        diffusers_copy / "text_encoder" / "model.safetensors", _rename("shared.weight", "encoder.embed_tokens.weight")
    )
    assert torch.equal(open_checkpoint(diffusers_copy).read("text.shared.weight"), expected)


def test_both_tied_embeddings_and_a_decoder_are_accepted(diffusers_copy: Path, edit_tensors: Edit) -> None:
    extra = _add(
        encoder__embed_tokens__weight=torch.zeros(512, 64), decoder__x=torch.zeros(3), lm_head__weight=torch.ones(1)
    )
    edit_tensors(diffusers_copy / "text_encoder" / "model.safetensors", extra)
    checkpoint = open_checkpoint(diffusers_copy)
    assert checkpoint.read("text.shared.weight").std() > 0.5  # shared.weight, not the zeros beside it


# Checkpoints that are not what they should be.


def test_all_differences_are_listed_at_once(diffusers_copy: Path, edit_tensors: Edit) -> None:
    def change_transformer(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["transformer_blocks.1.attn1.to_q.weight"]
        tensors["proj_out.bias"] = torch.zeros(47)

    edit_tensors(diffusers_copy / "transformer" / DIFFUSERS_WEIGHTS, change_transformer)
    edit_tensors(diffusers_copy / "vae" / DIFFUSERS_WEIGHTS, _add(encoder__extra=torch.zeros(2, 3)))
    half = torch.zeros(64, dtype=torch.float64)
    edit_tensors(diffusers_copy / "text_encoder" / "model.safetensors", _add(encoder__final_layer_norm__weight=half))
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(diffusers_copy)
    assert str(error.value).splitlines() == [
        f"{diffusers_copy} (diffusers layout): the tensors are not those of the model: "
        "1 missing, 1 unexpected, 1 misshapen, 1 of an unsupported dtype",
        "  missing: transformer: transformer_blocks.1.attn1.to_q.weight [192, 192]",
        "  unexpected: vae: encoder.extra [2, 3]",
        "  misshapen: transformer: proj_out.bias is [47], expected [48]",
        "  of an unsupported dtype: text_encoder: encoder.final_layer_norm.weight is F64",
    ]


def test_the_list_is_capped_but_counted(genmo_copy: Path, edit_tensors: Edit) -> None:
    def remove_block(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if key.startswith("blocks.0.")]:
            del tensors[key]

    edit_tensors(genmo_copy / "dit.safetensors", remove_block)
    with pytest.raises(CheckpointError, match=r"18 missing\n") as error:
        open_checkpoint(genmo_copy)
    lines = str(error.value).splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  missing: and 8 more"


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("dit", "blocks.1.attn.qkv_x.weight"),
        ("dit", "pos_frequencies"),
        ("dit", "blocks.0.mlp_x.w1.weight"),
        ("decoder", "blocks.2.blocks.0.stack.2.weight"),
        ("encoder", "layers.1.stack.0.bias"),
    ],
)
def test_one_wrong_shape_in_genmos_layout_is_reported_as_one(
    file: str, key: str, genmo_copy: Path, edit_tensors: Edit
) -> None:
    edit_tensors(genmo_copy / f"{file}.safetensors", lambda tensors: tensors.update({key: torch.zeros(5, 7)}))
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(genmo_copy)
    lines = str(error.value).splitlines()
    assert lines[0].endswith(": 1 misshapen")
    assert lines[1].startswith(f"  misshapen: {file}: {key} is [5, 7], expected [")


@pytest.mark.parametrize("name", ["transformer", "vae", "text_encoder"])
def test_a_truncated_file_is_named(name: str, diffusers_copy: Path) -> None:
    path = next((diffusers_copy / name).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=f"{name}/{path.name} is not a whole safetensors file"):
        open_checkpoint(diffusers_copy)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", TINY, "diffusers", shard_bytes=2_000_000)
    shard = sorted((tmp_path / "x" / "vae").glob("*-of-*"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"vae/{shard.name} is missing"):
        open_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("name", ["dit", "decoder"])
def test_a_missing_genmo_file(name: str, genmo_copy: Path) -> None:
    (genmo_copy / f"{name}.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"{name}.safetensors"):
        open_checkpoint(genmo_copy)


def test_an_unknown_layout_says_what_is_there(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"no known layout: expected model_index\.json .* found model\.safetensors"
    ):
        open_checkpoint(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no known layout.*found nothing"):
        open_checkpoint(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        open_checkpoint(tmp_path / "gone")


def test_another_model_in_diffusers_layout(diffusers_copy: Path, edit_json: Callable[..., None]) -> None:
    edit_json(diffusers_copy / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(CheckpointError, match="is of a FluxPipeline, expected a MochiPipeline"):
        open_checkpoint(diffusers_copy)


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("text_encoder", {"feed_forward_proj": "relu"}, 'feed_forward_proj is "relu", Mochi has "gated-gelu"'),
        ("text_encoder", {"model_type": "umt5"}, 'model_type is "umt5"'),
        ("text_encoder", {"d_model": 72}, "text encoder is 72 wide, the transformer reads captions 64 wide"),
        ("transformer", {"in_channels": 16}, "VAE has 12 latent channels, but the transformer reads 16"),
        ("vae", {"latents_std": [1.0]}, "1 latent standard deviations, expected 12"),
        ("vae", {"temporal_expansions": [1, 2]}, "2 time factors, expected 3"),
        ("vae", {"layers_per_block": [1] * 4, "add_attention_block": [False, True, True, True]}, "4 decoder residual"),
        ("vae", {"encoder_block_out_channels": [32, 64]}, "2 encoder channels, expected 4"),
        ("transformer", {"num_layers": 1}, r"missing.*\n.*norm1_context\.linear_1"),
    ],
)
def test_a_config_that_does_not_fit(
    path: str, fields: dict[str, object], message: str, diffusers_copy: Path, edit_json: Callable[..., None]
) -> None:
    edit_json(diffusers_copy / path / "config.json", **fields)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(diffusers_copy)


def test_a_missing_config(diffusers_copy: Path) -> None:
    (diffusers_copy / "vae" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"vae/config\.json is missing"):
        open_checkpoint(diffusers_copy)


def test_a_folder_with_both_layouts_is_read_as_diffusers(genmo_checkpoint: Path, diffusers_copy: Path) -> None:
    for name in ("dit", "decoder", "encoder"):
        shutil.copy(genmo_checkpoint / f"{name}.safetensors", diffusers_copy)
    assert open_checkpoint(diffusers_copy).layout == "diffusers"


def test_a_tokenizer_with_more_tokens_than_embeddings(diffusers_copy: Path) -> None:
    path = diffusers_copy / "tokenizer" / "tokenizer.json"
    fields = json.loads(path.read_text())
    fields["model"]["vocab"] += [[f"<more {number}>", -20.0] for number in range(200)]
    path.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="tokens, but the text encoder has embeddings for 512"):
        open_checkpoint(diffusers_copy).tokenizer_json()
