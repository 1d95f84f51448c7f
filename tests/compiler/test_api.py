"""`mochi_aot.compile` beside the command line, and what it refuses."""

from pathlib import Path

import pytest
from click.testing import CliRunner

import mochi_aot
from mochi_aot.artifacts.errors import BundleError, MochiError
from mochi_aot.compiler.api import default_output
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.errors import CompileOptionError
from mochi_aot.tools.commands.compile import main

GEOMETRY = "32x48x7"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "mochi"
    write_checkpoint(path, TINY, "diffusers")
    return path


def files(bundle: Path) -> dict[str, bytes]:
    """The contents of a bundle by path."""
    paths = (path for path in bundle.rglob("*") if path.is_file())
    return {str(path.relative_to(bundle)): path.read_bytes() for path in paths}


def test_it_writes_what_the_command_line_writes(checkpoint: Path, tmp_path: Path) -> None:
    summary = mochi_aot.compile(checkpoint, mesh=(1, 2), output=tmp_path / "a", target="torch", geometries=GEOMETRY)
    words = ["--checkpoint", checkpoint, "--mesh", "1x2", "--target", "torch", "--geometry", GEOMETRY]
    result = CliRunner().invoke(main, [*map(str, words), "-o", str(tmp_path / "b")])
    assert result.exit_code == 0, result.stderr
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert summary.bundle_id[:16] in result.stdout


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"target": "ttnn", "dtype": "float32"}, "dtype float32"),
        ({"target": "torch", "weights_dtype": "bfloat8_b"}, "weights-dtype bfloat8_b"),
        ({"target": "ttnn", "weights_dtype": "float8"}, "weights-dtype float8"),
        (
            {"target": "torch", "weights_dtype": "float7"},
            "'float7' is not one of bfloat16, bfloat8_b, float8",
        ),
        ({"target": "torch", "trust_times": True}, "trust-times"),
        ({"target": "tpu"}, "tpu"),
        ({"target": "torch", "geometries": "32x40x7"}, "the nearest that work are 32x48x7 and 32x32x7"),
        ({"target": "torch", "geometries": "32x48x7", "plan": "h0t1"}, "h0t1 wants 13 frames or more"),
    ],
)
def test_what_contradicts_itself_is_refused(
    checkpoint: Path, tmp_path: Path, options: dict[str, str], problem: str
) -> None:
    with pytest.raises(MochiError) as caught:
        mochi_aot.compile(checkpoint, mesh="1x2", output=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert problem in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_bundle_is_beside_the_checkpoint(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the checkpoint is called by."""
    (tmp_path / "model" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "model")
    assert default_output(Path("inner")) == Path("inner.bundle")
    assert default_output(Path(".")) == tmp_path / "model.bundle"
    assert default_output(Path("inner/..")) == tmp_path / "model.bundle"
    with pytest.raises(CompileOptionError, match="no bundle can be written beside /: give an output"):
        default_output(Path("/"))
    result = CliRunner().invoke(main, ["--checkpoint", "/", "--mesh", "1x1", "--target", "torch"])
    assert result.exit_code == 2 and "beside /" in result.stderr


@pytest.mark.parametrize(("place", "problem"), [(".", "is a folder"), ("none/p.json", "none does not exist")])
def test_a_profile_that_cannot_be_written_is_told_first(
    checkpoint: Path, tmp_path: Path, place: str, problem: str
) -> None:
    with pytest.raises(BundleError, match=problem):
        mochi_aot.compile(
            checkpoint,
            mesh="1x1",
            target="torch",
            geometries=GEOMETRY,
            output=tmp_path / "out",
            profile=tmp_path / place,
        )
    assert list(tmp_path.iterdir()) == []


def test_print_ir_and_profile(checkpoint: Path, tmp_path: Path) -> None:
    """A text for each pass of each program, in order, and seconds of each pass."""
    words = ["--checkpoint", checkpoint, "--mesh", "1x2", "--target", "torch", "--geometry", GEOMETRY]
    words += ["--print-ir", tmp_path / "ir", "--profile", tmp_path / "profile.json"]
    result = CliRunner().invoke(main, [*map(str, words), "-o", str(tmp_path / "b")])
    assert result.exit_code == 0, result.stderr
    steps = sorted(path.name for path in (tmp_path / "ir").glob(f"{GEOMETRY}.denoise.[0-9]*.ir"))
    names = [name.split(".")[-2] for name in steps]
    assert names[0] == "trace" and names[-3:] == ["simplify", "merge_linears", "simplify"] and "partition" in names
    assert "mesh=1x2" in (tmp_path / "ir" / steps[-1]).read_text().splitlines()[0]
    assert "mesh" not in (tmp_path / "ir" / steps[0]).read_text().splitlines()[0]
    assert {"merge_linears", "partition"} <= set((tmp_path / "profile.json").read_text().replace('"', " ").split())
    again = CliRunner().invoke(main, [*map(str, words), "-o", str(tmp_path / "c")])
    assert again.exit_code == 4 and not (tmp_path / "c").exists()
