"""Numbers that are not finite, through the command lines: each is an error that says where it comes from.

One weight of a small checkpoint is changed. Without the check while compiling, running has to find it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.tools.commands import compile as compile_tool
from mochi_aot.tools.commands import run as run_tool

pytestmark = pytest.mark.slow  # each compile takes seconds

TRANSFORMER, VAE = "transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
BLOCK = "transformer_blocks.1"

Change = Callable[[str, str, tuple[int, ...], float], Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("values") / "mochi"
    write_checkpoint(path, TINY, "diffusers")
    return path


@pytest.fixture
def change(whole: Path, tmp_path: Path) -> Change:
    """Copies the checkpoint, with another number in one place of one file."""

    def changed(file: str, key: str, index: tuple[int, ...], number: float) -> Path:
        copy = tmp_path / "mochi"
        shutil.copytree(whole, copy)
        tensors = load_file(copy / file)
        tensors[key][index] = number
        save_file(tensors, copy / file)
        return copy

    return changed


def compiled(checkpoint: Path, *options: str) -> Result:
    words = ["--checkpoint", checkpoint, "--mesh", "1x2", "--target", "torch", "--geometry", "16x32x7", *options]
    return CliRunner().invoke(compile_tool.main, [*map(str, words), "-o", str(checkpoint.with_name("b"))])


def run(checkpoint: Path, *options: str) -> Result:
    """Compiles what it is given, without looking at the weights, and makes a video of it."""
    if not checkpoint.with_name("b").exists():
        result = compiled(checkpoint, "--no-check-weights")
        assert result.exit_code == 0, result.output
    words = [checkpoint.with_name("b"), "--prompt", "a red fox", "--steps", 2, "--seed", 1]
    words += ["--force", "-o", checkpoint.with_name("x.mp4")]  # latents that a run before kept are made again
    return CliRunner().invoke(run_tool.main, [*map(str, words), *options])


def error_of(result: Result) -> str:
    """The one line that says what went wrong."""
    assert result.exit_code == 3, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("file", "key", "index", "number", "seen"),
    [
        (TRANSFORMER, f"{BLOCK}.attn1.to_k.weight", (5, 3), float("nan"), "nan"),
        (TRANSFORMER, "pos_frequencies", (1, 0, 2), float("nan"), "nan"),
        (VAE, "decoder.block_in.resnets.0.conv1.conv.weight", (1, 2, 0, 1, 2), float("inf"), "inf"),
        (VAE, "encoder.norm_out.norm_layer.bias", (7,), float("-inf"), "-inf"),
        (TEXT, "encoder.block.0.layer.0.SelfAttention.o.weight", (0, 0), float("-inf"), "-inf"),
    ],
    ids=["transformer", "frequencies", "decoder", "encoder", "text"],
)
def test_a_weight_ends_the_compile(
    change: Change, file: str, key: str, index: tuple[int, ...], number: float, seen: str
) -> None:
    checkpoint = change(file, key, index, number)
    message = error_of(compiled(checkpoint, "--with-encoder"))
    assert message.startswith(f"{checkpoint / file}: {key}{list(index)} is {seen}, which is not a finite number: ")
    assert "--no-check-weights" in message
    assert not checkpoint.with_name("b").exists()


def test_a_weight_of_a_stacked_tensor_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    """Genmo's layout has q, k and v in one tensor; the index is the file's."""
    write_checkpoint(tmp_path / "mochi", TINY, "genmo")
    path = tmp_path / "mochi" / "dit.safetensors"
    tensors = load_file(path)
    rows = tensors["blocks.0.attn.qkv_x.weight"].shape[0]
    tensors["blocks.0.attn.qkv_x.weight"][rows // 3 + 2, 1] = float("nan")
    tensors["blocks.0.attn.qkv_x.weight"][rows // 3 + 2, 4] = float("inf")
    save_file(tensors, path)
    message = error_of(compiled(tmp_path / "mochi"))
    assert message.startswith(f"{path}: blocks.0.attn.qkv_x.weight[{rows // 3 + 2}, 1] is nan")


CASES = {
    # what is spoilt, the program that is the first to make no number of it, and what that program's instruction reads:
    # a merged weight has the name of the first one in it
    "text": ((TEXT, "encoder.block.1.layer.1.DenseReluDense.wo.weight", (1, 2)), "encode_text", "wo.weight"),
    "caption": ((TRANSFORMER, "time_embed.caption_proj.weight", (0, 1)), "prepare_prompt", "dit.caption_proj.weight"),
    "modulation": ((TRANSFORMER, f"{BLOCK}.norm1.linear.weight", (3, 3)), "prepare_steps", "dit.blocks.0.mod_x."),
    "transformer": ((TRANSFORMER, f"{BLOCK}.attn1.to_v.weight", (6, 1)), "denoise", "dit.blocks.1.attn."),
    "decoder": ((VAE, "decoder.up_blocks.1.resnets.0.conv2.conv.weight", (1, 0, 0, 0, 0)), "decode", "conv2.weight"),
    "last bias": ((VAE, "decoder.proj_out.bias", (2,)), "decode", "decoder.proj_out.bias"),
}


@pytest.mark.parametrize(("case", "number"), [*((case, float("nan")) for case in CASES), ("decoder", float("inf"))])
def test_a_weight_that_nobody_looked_at_ends_the_run(change: Change, case: str, number: float) -> None:
    (file, key, index), program, weight = CASES[case]
    checkpoint = change(file, key, index, number)
    message = error_of(run(checkpoint))
    assert message.startswith(f"program '{program}' is the first that made numbers which are not finite (")
    assert ("in step 1 of 2;" in message) == (program == "denoise")
    assert "--check-values names the instruction" in message
    message = error_of(run(checkpoint, "--check-values", "--force"))
    assert message.startswith(f"program '{program}'") and weight in message and " is the first that made " in message
    kept = ["x.latents.safetensors"] if program == "decode" else []  # what was denoised; no video, no record
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["b", "mochi", *kept]


def test_the_instruction_is_where_the_reference_has_it(change: Change) -> None:
    """The last product of the decoder, in compiler/reference/vae_decoder.py."""
    checkpoint = change(VAE, "decoder.proj_out.bias", (1,), float("nan"))
    message = error_of(run(checkpoint, "--check-values"))
    line = message.partition("(reference/vae_decoder.py:")[2].partition(")")[0]
    source = Path(compile_tool.__file__).parents[2] / "compiler" / "reference" / "vae_decoder.py"
    assert "self.proj_out(" in source.read_text().splitlines()[int(line) - 1]
    assert "linear is the first that made NaN; it reads " in message


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_is_said_of_masks(whole: Path, tmp_path: Path, dtype: str) -> None:
    """Empty, short and cut prompts: what is not to be attended is a low number that stays finite."""
    words = ["--checkpoint", whole, "--mesh", "1x2", "--target", "torch", "--geometry", "16x32x7", "--dtype", dtype]
    assert CliRunner().invoke(compile_tool.main, [*map(str, words), "-o", str(tmp_path / "b")]).exit_code == 0
    for name, prompt in {"empty": "", "some": "a red fox", "all": "fox " * 300}.items():
        arguments = [str(tmp_path / "b"), "--prompt", prompt, "--steps", "1", "--check-values", "-o"]
        result = CliRunner().invoke(run_tool.main, [*arguments, str(tmp_path / f"{name}.mp4")])
        assert result.exit_code == 0, result.output


def in_bfloat16(path: Path) -> None:
    tensors = load_file(path)
    save_file({**tensors, "pos_frequencies": tensors["pos_frequencies"].bfloat16()}, path)


def test_frequencies_in_bfloat16_are_said(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "mochi")
    in_bfloat16(tmp_path / "mochi" / TRANSFORMER)
    result = compiled(tmp_path / "mochi")
    assert result.exit_code == 0, result.output
    said = f"note: {tmp_path / 'mochi' / TRANSFORMER}: pos_frequencies is bfloat16, and no file beside it has it in"
    assert said in result.stderr


@pytest.mark.parametrize("other", ["transformer/diffusion_pytorch_model.fp32.safetensors", "dit.safetensors"])
def test_frequencies_in_float32_beside_them_are_used(whole: Path, tmp_path: Path, other: str) -> None:
    """The bundle then has the very weights of one that was compiled from float32; other frequencies are not taken."""
    checkpoint = tmp_path / "mochi"
    shutil.copytree(whole, checkpoint)
    frequencies = load_file(whole / TRANSFORMER)["pos_frequencies"]
    in_bfloat16(checkpoint / TRANSFORMER)
    save_file({"pos_frequencies": frequencies * 1.02}, checkpoint / "a.safetensors")
    save_file({"pos_frequencies": frequencies.clone()}, checkpoint / other)
    result = compiled(checkpoint)
    assert result.exit_code == 0, result.output
    seen = f"{checkpoint / TRANSFORMER}: pos_frequencies is bfloat16"
    assert f"note: {seen}; the float32 one in {checkpoint / other} is used\n" in result.stderr
    (tmp_path / "b").rename(tmp_path / "beside")
    shutil.copyfile(whole / TRANSFORMER, checkpoint / TRANSFORMER)
    result = compiled(checkpoint)
    assert result.exit_code == 0 and "pos_frequencies" not in result.stderr
    assert shards(tmp_path / "beside") == shards(tmp_path / "b")


def shards(bundle: Path) -> set[str]:
    from mochi_aot.artifacts import Bundle

    return {shard.blake3 for shard in Bundle.open(bundle).manifest.shards}
