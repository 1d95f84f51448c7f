import json
import os
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mochi_aot.compiler.checkpoint import open_checkpoint, synthetic
from mochi_aot.compiler.checkpoint.layouts import LAYOUTS
from mochi_aot.compiler.checkpoint.presets import PRESETS, TINY
from mochi_aot.tools.commands import checkpoint as tool
from mochi_aot.tools.commands.checkpoint import main
from mochi_aot.tools.training.shipped import CARD, SHAPES


@pytest.mark.parametrize("layout", ["diffusers", "genmo"])
def test_writes_a_checkpoint(layout: str, tmp_path: Path) -> None:
    out = tmp_path / "x"
    result = CliRunner().invoke(main, [str(out), "--layout", layout, "--seed", "4", "--dtype", "bfloat16"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: tiny, {layout} layout, seed 4, bfloat16, 0.007 GB of weights\n"
    checkpoint = open_checkpoint(out)
    assert checkpoint.layout == layout
    assert checkpoint.config == TINY
    assert checkpoint.read("decoder.conv_in.bias").dtype == torch.bfloat16


def test_layouts_of_one_seed_are_one_model(tmp_path: Path) -> None:
    for layout in ("diffusers", "genmo"):
        CliRunner().invoke(main, [str(tmp_path / layout), "--layout", layout], catch_exceptions=False)
    one, other = open_checkpoint(tmp_path / "diffusers"), open_checkpoint(tmp_path / "genmo")
    assert one.names() == other.names()
    assert all(torch.equal(one.read(name), other.read(name)) for name in one.names())


def test_an_existing_path_needs_force(tmp_path: Path) -> None:
    out = str(tmp_path / "x")
    assert CliRunner().invoke(main, [out]).exit_code == 0
    result = CliRunner().invoke(main, [out])
    assert result.exit_code == 4
    assert f"error: {out} exists: choose another path, or replace it with --force\n" in result.stderr
    assert CliRunner().invoke(main, [out, "--force", "--seed", "1"]).exit_code == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    result = CliRunner().invoke(main, [str(tmp_path / "x")])
    assert result.exit_code == 7
    assert "error: " in result.stderr and result.stderr.endswith(": Permission denied\n")


def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, [str(tmp_path / "file" / "x")])
    assert result.exit_code == 3
    assert result.stderr.endswith((f"error: {tmp_path}/file: File exists\n", "Not a directory\n"))


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "write_checkpoint", interrupted)
    result = CliRunner().invoke(main, [str(tmp_path / "x")])
    assert result.exit_code == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["diffusers", "genmo"])
def test_the_trained_model(layout: str, tmp_path: Path) -> None:
    out = tmp_path / "x"
    result = CliRunner().invoke(main, [str(out), "--trained", "--layout", layout])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: trained, {layout} layout, bfloat16, 0.019 GB of weights\n"
    made, shipped = open_checkpoint(out), open_checkpoint(SHAPES)
    assert made.layout == layout and made.config == shipped.config
    assert made.tokenizer_json() == shipped.tokenizer_json()
    assert all(torch.equal(made.read(name), shipped.read(name)) for name in shipped.names())
    assert (out / CARD).read_bytes() == (SHAPES / CARD).read_bytes()
    wide = CliRunner().invoke(main, [str(out), "--trained", "--dtype", "float32", "--force", "--json"])
    assert json.loads(wide.stdout)["weight_bytes"] == 4 * sum(shipped.read(name).numel() for name in shipped.names())
    assert open_checkpoint(out).dtype("dit.final.proj.weight") == "float32"


@pytest.mark.parametrize("options", [["--preset", "tiny"], ["--seed", "0"]])
def test_the_trained_model_has_one_size_and_no_seed(options: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path / "x"), "--trained", *options])
    assert result.exit_code == 2 and "--trained is one model: leave out --preset and --seed" in result.output


def test_choices_are_those_of_the_compiler() -> None:
    assert list(tool.PRESET_NAMES) == list(PRESETS)
    assert sorted(tool.LAYOUTS) == sorted(LAYOUTS)


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(main, [str(tmp_path / "x")])
    assert result.exit_code == 5
    assert result.stderr.startswith("writing the checkpoint\nerror: torch is not installed; ")
    assert "pip install 'mochi-aot[compile]'" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--preset", "huge"], ["--layout", "onnx"], ["--seed", "-1"], ["--dtype", "int8"]]
)
def test_choices_are_checked(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path / "x"), *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
