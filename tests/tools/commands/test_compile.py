"""mochi-compile from the command line: what it makes, what it refuses, and what it leaves behind."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.tools.commands.compile import main
from mochi_aot.tools.commands.compiling import Terminal

SIZE, LARGER = "16x16x7", "32x16x7"
NOTICES = {"LICENSE": "be kind", "README.md": "---\nlicense: mit\n---\n# Card\n", "text_encoder/LICENSE": "be kind"}
ROLES = ["encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode"]


@pytest.fixture(scope="module")
def diffusers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diffusers") / "mochi"
    write_checkpoint(path, TINY, "diffusers")
    for name, text in NOTICES.items():
        (path / name).write_text(text)
    return path


@pytest.fixture(scope="module")
def genmo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same model in Genmo's layout, and its text encoder in a folder of its own."""
    folder = tmp_path_factory.mktemp("genmo")
    write_checkpoint(folder / "mochi", TINY, "genmo")
    (folder / "t5").mkdir()
    for name in ("text_encoder", "tokenizer"):
        shutil.move(folder / "mochi" / name, folder / "t5" / name)
    return folder / "mochi", folder / "t5"


def compile_(*arguments: object, **environment: str | None) -> Result:
    """For the torch target where the arguments name none."""
    words = [*([] if "--target" in arguments else ["--target", "torch"]), *map(str, arguments)]
    return CliRunner().invoke(main, words, env={"MOCHI_CHECKPOINT": None, **environment})


@pytest.fixture(scope="module")
def compiled(diffusers: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Result]:
    """Two geometries on a 1x2 mesh, to the default place: beside the checkpoint."""
    result = compile_("--checkpoint", diffusers, "--mesh", "1x2", "--geometry", SIZE, "--geometry", LARGER)
    assert result.exit_code == 0, result.output
    return Bundle.open(diffusers.with_name("mochi.bundle")), result


def test_the_licence_and_the_card_come_along(compiled: tuple[Bundle, Result]) -> None:
    """A text that two files have is there once."""
    bundle, _ = compiled
    assert {name: bundle.notice(name).decode() for name in bundle.manifest.notices} == NOTICES
    assert len([file for file in bundle.manifest.files if file.path.startswith("notices/")]) == 2
    assert bundle.manifest.checkpoint["license"] == "mit"


def fails(result: Result, *messages: str, code: int = 3) -> None:
    """After the phases that were done, stderr ends with one error that has the messages in it."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    _, mark, error = f"\n{result.stderr}".partition("\nerror: ")
    assert mark, result.stderr
    assert all(message in error for message in messages), error


def refused(diffusers: Path, tmp_path: Path, *arguments: object) -> Result:
    """Runs with a good checkpoint and bad arguments; whatever happens, there must be no bundle and no leftover."""
    result = compile_("--checkpoint", diffusers, "-o", tmp_path / "out", *arguments)
    assert list(tmp_path.iterdir()) == []
    return result


def test_the_report(compiled: tuple[Bundle, Result]) -> None:
    bundle, result = compiled
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "geometry",
        "program",
        "plan",
        "instructions",
        "collectives",
        "compute",
        "weights",
        "sent",
    ]
    cells = [line.split() for line in lines[1:11]]
    assert [row[:2] for row in cells] == [[size, role] for size in (SIZE, LARGER) for role in ROLES]
    for row, geometry in zip(cells[3::5], bundle.manifest.geometries, strict=True):
        denoise = bundle.program("denoise", geometry)
        assert row[2] == denoise.plan and int(row[4]) == sum(denoise.stats.collectives.values()) > 0
    assert lines[12].startswith("weights: ") and lines[12].endswith(" on disk, 0 B of it made before")
    assert lines[13].startswith("took ") and ", peak memory " in lines[13]
    assert lines[14] == f"bundle {bundle.id[:16]} in {bundle.path}"
    # On a slow machine a phase says how long it has been going on.
    assert [line for line in result.stderr.splitlines() if not line.endswith(" so far")] == [
        "loading the compiler",
        f"tracing {SIZE}",
        f"tracing {LARGER}",
        "partitioning over 1x2",
        "writing weights",
    ]


def test_the_encoder_comes_if_it_is_wanted(compiled: tuple[Bundle, Result], diffusers: Path, tmp_path: Path) -> None:
    """Beside a bundle without it, by --reuse, its own weights and constants alone are made."""
    without, _ = compiled
    words = ["--checkpoint", diffusers, "--mesh", "1x2", "--geometry", SIZE, "--with-encoder", "--plan"]
    plans = ",".join(dict.fromkeys(without.program(role, without.manifest.geometries[0]).plan for role in ROLES))
    result = compile_(*words, plans, "--reuse", without.path, "-o", tmp_path / "with")
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(tmp_path / "with")
    assert sorted(bundle.manifest.geometries[0].programs) == sorted([*ROLES, "encode"])
    more = {weight.name for weight in bundle.manifest.weights} - {weight.name for weight in without.manifest.weights}
    assert more and all(name.startswith(("encoder.", "constant:")) for name in more)
    assert more <= {weight.name for weight in bundle.program("encode", bundle.manifest.geometries[0]).weights}
    assert "made before" in result.stdout and ", 0 B of it made before" not in result.stdout


def test_the_bundle_is_whole(compiled: tuple[Bundle, Result]) -> None:
    bundle, _ = compiled
    bundle.verify()
    manifest = bundle.manifest
    assert (manifest.target, manifest.mesh, manifest.dtype) == ("torch", [1, 2], "bfloat16")
    assert [(g.height, g.width, g.frames) for g in manifest.geometries] == [(16, 16, 7), (32, 16, 7)]
    assert all(sorted(g.programs) == sorted(ROLES) for g in manifest.geometries)
    assert manifest.checkpoint["layout"] == "diffusers"
    assert bundle.tokenizer()


def test_geometries_share_programs_and_weights(compiled: tuple[Bundle, Result]) -> None:
    """Weights of one geometry alone are those tables and constants that depend on the size."""
    bundle, _ = compiled
    first, second = bundle.manifest.geometries
    assert first.programs["encode_text"] == second.programs["encode_text"]
    for role in ROLES:
        one, other = ({weight.name for weight in bundle.program(role, g).weights} for g in (first, second))
        assert all(name.startswith("constant:") for name in one ^ other)
    assert len({shard.blake3 for shard in bundle.manifest.shards}) == len(bundle.manifest.shards)


def test_both_layouts_make_the_same_weights(
    compiled: tuple[Bundle, Result], genmo: tuple[Path, Path], tmp_path: Path
) -> None:
    """The checkpoint is named by $MOCHI_CHECKPOINT here, and a bundle in the way is replaced with --force."""
    checkpoint, text_encoder = genmo
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.msgpack").write_bytes(Path(compiled[0].path / "manifest.msgpack").read_bytes())
    arguments = ["--text-encoder", text_encoder, "--mesh", "1x2", "--geometry", SIZE, "-o", tmp_path / "out"]
    fails(compile_(*arguments, MOCHI_CHECKPOINT=str(checkpoint)), "exists", "--force", code=4)
    result = compile_(*arguments, "--force", MOCHI_CHECKPOINT=str(checkpoint))
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    bundle = Bundle.open(tmp_path / "out")
    assert bundle.manifest.checkpoint["layout"] == "genmo"
    expected = shards_by_weight(compiled[0])
    assert shards_by_weight(bundle).items() <= expected.items()
    assert all(name.startswith("constant:") for name in expected.keys() - shards_by_weight(bundle).keys())


def shards_by_weight(bundle: Bundle) -> dict[str, list[str]]:
    shards = bundle.manifest.shards
    return {weight.name: [shards[index].blake3 for index in weight.shards] for weight in bundle.manifest.weights}


def test_an_output_that_exists(compiled: tuple[Bundle, Result], diffusers: Path) -> None:
    before = compiled[0].id
    result = compile_("--checkpoint", diffusers, "--mesh", "1x2", "--geometry", SIZE)
    fails(result, f"{compiled[0].path} exists", "--force", code=4)
    assert Bundle.open(compiled[0].path).id == before


@pytest.mark.parametrize("mesh", ["2", "0x2", "2x4x8", "2,4", "9999x9999"])
def test_a_mesh_that_is_none(diffusers: Path, tmp_path: Path, mesh: str) -> None:
    result = refused(diffusers, tmp_path, "--mesh", mesh, "--geometry", SIZE)
    fails(result, f"mesh {mesh}" if "99" in mesh else mesh, code=2)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ("16x16", "geometry '16x16' is not HxWxF"),
        ("16x16x8", "8 frames is not 6k+1; the nearest that work are 16x16x7 and 16x16x13\n"),
        ("24x16x7", "height 24 is not a positive multiple of 16"),
        ("16x0x7", "width 0 is not a positive multiple of 16"),
    ],
)
def test_a_geometry_that_the_model_cannot_make(diffusers: Path, tmp_path: Path, geometry: str, message: str) -> None:
    fails(refused(diffusers, tmp_path, "--mesh", "1x1", "--geometry", geometry), message, code=2)


def test_a_plan_that_cannot_work(diffusers: Path, tmp_path: Path) -> None:
    """Eight heads cannot be dealt to 16 devices."""
    result = refused(diffusers, tmp_path, "--mesh", "1x16", "--geometry", SIZE, "--plan", "sp0tp1")
    fails(result, "mesh 1x16: no plan works; plan sp0tp1", "192 splits into 8 x 24", "8 does not divide", code=6)


@pytest.mark.parametrize(
    ("plan", "message"),
    [("fast", "there is no plan 'fast'; the plans are auto, "), ("sp1tp0,sp0tp1", "are both plans for denoise")],
)
def test_a_plan_that_is_none(diffusers: Path, tmp_path: Path, plan: str, message: str) -> None:
    fails(refused(diffusers, tmp_path, "--mesh", "1x1", "--geometry", SIZE, "--plan", plan), message, code=2)


def test_options_that_click_refuses(diffusers: Path, tmp_path: Path) -> None:
    for arguments in (["--mesh", "1x1", "--target", "abacus"], ["--mesh", "1x1", "--dtype", "int4"], []):
        assert refused(diffusers, tmp_path, *arguments).exit_code == 2
    result = compile_("--mesh", "1x1")
    assert result.exit_code == 2 and "--checkpoint" in result.stderr


def test_no_checkpoint_there(tmp_path: Path) -> None:
    arguments = ["--mesh", "1x1", "--geometry", SIZE, "-o", tmp_path / "out"]
    fails(compile_("--checkpoint", tmp_path / "none", *arguments), str(tmp_path / "none"))
    fails(compile_("--checkpoint", tmp_path, *arguments), str(tmp_path), "model_index.json", "dit.safetensors")


def test_genmos_layout_without_a_text_encoder(genmo: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["--mesh", "1x1", "--geometry", SIZE, "-o", tmp_path / "out"]
    fails(compile_("--checkpoint", genmo[0], *arguments), "--text-encoder")


@pytest.fixture
def copy(diffusers: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage; its files are links to the good ones until a test writes them anew."""
    shutil.copytree(diffusers, tmp_path / "copy", copy_function=lambda source, place: Path(place).symlink_to(source))
    return tmp_path / "copy"


def compile_damaged(copy: Path) -> Result:
    result = compile_("--checkpoint", copy, "--mesh", "1x1", "--geometry", SIZE)
    assert list(copy.parent.iterdir()) == [copy]
    return result


def test_a_truncated_file(copy: Path) -> None:
    [path] = (copy / "transformer").glob("*.safetensors")
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-100])
    fails(compile_damaged(copy), str(path))


def test_one_wrong_shape(copy: Path) -> None:
    [path] = (copy / "vae").glob("*.safetensors")
    tensors = load_file(path)
    name = "decoder.conv_in.bias"
    assert tensors[name].shape == (64,)
    tensors[name] = torch.zeros(65)
    path.unlink()
    save_file(tensors, path)
    fails(compile_damaged(copy), f"{name} is [65], expected [64]")


def test_an_output_that_cannot_be_written(diffusers: Path, tmp_path: Path) -> None:
    """Root may write in every folder, but nobody below a file."""
    (tmp_path / "file").touch()
    arguments = ["--checkpoint", diffusers, "--mesh", "1x1", "--geometry", SIZE]
    fails(compile_(*arguments, "-o", tmp_path / "file" / "out"), str(tmp_path / "file"))
    fails(compile_(*arguments, "-o", "/proc/out"), "/proc")


def test_interrupted_while_writing(diffusers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Terminal, done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Terminal, "weights", interrupt)
    result = refused(diffusers, tmp_path, "--mesh", "1x1", "--geometry", SIZE)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-2:] == ["writing weights", "interrupted"]


def test_ctrl_c_while_tracing(diffusers: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mochi_aot.tools.commands.compile", "--checkpoint", str(diffusers)]
    command += ["--mesh", "1x1", "--target", "torch"]
    child = subprocess.Popen([*command, "-o", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert child.stderr.readline() == "loading the compiler\n"
    assert "tracing 480x848x163\n" in iter(child.stderr.readline, "")
    assert len(list(tmp_path.iterdir())) == 1  # what is being written, under another name
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60)[1].splitlines()[-1] == "interrupted"
    assert child.returncode == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "ttnn", "--dtype", "float32"], "dtype float32 is for target torch"),
        (
            ["--target", "torch", "--weights-dtype", "bfloat8_b"],
            "weights-dtype bfloat8_b is not for target torch,",
        ),
        (["--target", "ttnn", "--weights-dtype", "float8"], "weights-dtype float8 is not for target ttnn, which has"),
        (["--target", "torch", "--links-dtype", "bfloat8_b"], "links-dtype bfloat8_b is for target ttnn; torch has"),
        (
            ["--target", "torch", "--weights-dtype", "float8", "--dtype", "float32"],
            "weights-dtype float8 is for dtype bfloat16, in which its products are; not float32",
        ),
    ],
)
def test_dtypes_that_a_target_does_not_have(diffusers: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = compile_("--checkpoint", diffusers, "--mesh", "1x1", *options, "-o", tmp_path / "out")
    assert result.exit_code == 2 and message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_comfyuis_files_in_eight_bits(genmo: tuple[Path, Path], tmp_path: Path) -> None:
    """A transformer in fp8, a decoder alone, T5 in one file: notes say how they are read, the report, JSON and the
    manifest what they are."""
    mochi, t5 = genmo
    dit = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in load_file(mochi / "dit.safetensors").items()}
    save_file({f"model.diffusion_model.{key}": tensor for key, tensor in dit.items()}, tmp_path / "dit.safetensors")
    decoder = load_file(mochi / "decoder.safetensors")
    save_file({f"decoder.{key}": tensor for key, tensor in decoder.items()}, tmp_path / "vae.safetensors")
    files = ["--transformer", tmp_path / "dit.safetensors", "--vae", tmp_path / "vae.safetensors"]
    files += ["--text-encoder", t5 / "text_encoder" / "model.safetensors", "--tokenizer", t5 / "tokenizer"]
    result = compile_(*files, "--mesh", "1x1", "--geometry", SIZE, "--json")
    assert result.exit_code == 0, result.output
    note = f"note: {tmp_path}/dit.safetensors: {len(dit)} tensors of float8_e4m3fn are read as bfloat16, exactly"
    assert note in result.stderr.splitlines()
    bundle = Bundle.open(tmp_path / "dit.bundle")
    made, recorded = json.loads(result.stdout)["checkpoint"], bundle.manifest.checkpoint
    assert made == recorded and recorded["layout"] == "genmo"
    assert recorded["dtype"] == "transformer float8_e4m3fn, vae float32, text_encoder float32"
    assert bundle.manifest.model["vae"]["encoder_channels"] == []
    wanted = compile_(*files, "--mesh", "1x1", "--geometry", SIZE, "--with-encoder", "-o", tmp_path / "other.bundle")
    fails(wanted, "the checkpoint has no video encoder")


def test_a_part_that_cannot_be_used_is_one_line(genmo: tuple[Path, Path], tmp_path: Path) -> None:
    mochi, t5 = genmo
    pointer = tmp_path / "dit.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    given = ("--checkpoint", mochi, "--text-encoder", t5, "--mesh", "1x1")
    for arguments, message in (
        (("--transformer", pointer), "is a Git LFS pointer, not the file itself: run git lfs pull in its folder"),
        (("--vae", mochi / "dit.safetensors"), "holds a transformer, expected a VAE's decoder or a VAE"),
        (("--variant", "bf16"), "has no weights of variant bf16"),
        (("--layout", "diffusers"), "has no model_index.json: it is not in Diffusers' layout, which --layout asks for"),
        (("--revision", "main"), "has no revisions: --revision is for repositories of the hub"),
    ):
        result = compile_(*given, *arguments)
        fails(result, message)
        assert result.stderr.count("\n") == 2  # that the compiler is loaded, and the error
