"""mochi-bundle delta and mochi-run --delta: another style of a bundle, from the command line and from Python."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

import mochi_aot
from mochi_aot.artifacts import Bundle, BundleError
from mochi_aot.artifacts.delta import OpenDelta
from mochi_aot.artifacts.low_rank import factor_bytes
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.errors import SignatureError
from mochi_aot.tools.benchmarks.seeded_lora import write_seeded_lora
from mochi_aot.tools.commands.bundle import main as bundle_main
from mochi_aot.tools.commands.run import main as run_main
from tests.runtime import toy_bundle

ASKED: dict[str, Any] = {"seed": 3, "num_inference_steps": 2, "output_type": "latent"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy, fine-tunes of it, each with one weight changed, and their deltas."""
    folder = tmp_path_factory.mktemp("delta")
    toy_bundle.write_bundle(folder / "base", mesh=(1, 2))
    with pytest.MonkeyPatch.context() as patch:
        for name, weight in (("slow", "w_dit"), ("talk", "text")):
            patch.setattr(toy_bundle, "WEIGHTS", {**TOY, weight: TOY[weight] * 0.5})
            toy_bundle.write_bundle(folder / name, mesh=(1, 2))
    for name in ("slow", "talk"):
        done = command("delta", folder / "base", folder / name, "-o", folder / f"{name}.delta")
        assert done.exit_code == 0 and "0 weights by factors, 1 whole" in done.output, done.output
    return folder


TOY = dict(toy_bundle.WEIGHTS)


def command(*words: object) -> Result:
    return CliRunner().invoke(bundle_main, [*map(str, words)])


def latents(bundle: Path, delta: Path | None = None) -> np.ndarray:
    with mochi_aot.load(bundle, delta=delta) as pipe:
        return pipe("red fox", **ASKED).latents


@pytest.mark.parametrize("name", ["slow", "talk"])
def test_it_is_the_style(folder: Path, name: str, tmp_path: Path) -> None:
    expected = latents(folder / name)
    assert not np.array_equal(expected, latents(folder / "base"))
    assert np.array_equal(latents(folder / "base", folder / f"{name}.delta"), expected)
    words = [folder / "base", "--delta", folder / f"{name}.delta", "--prompt", "red fox", "--seed", 3, "--steps", 2]
    done = CliRunner().invoke(run_main, [*map(str, words), "--no-decode", "--save-latents", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert np.array_equal(load_file(tmp_path / "out")["latents"], expected)
    said = json.loads((tmp_path / "out.json").read_text())
    base, style = Bundle.open(folder / "base"), Bundle.open(folder / name)
    assert said["bundle"]["id"] == base.id
    assert said["delta"] == {"id": OpenDelta.open(folder / f"{name}.delta").id, "style": style.id}


def test_switching_in_one_process(folder: Path, tmp_path: Path) -> None:
    """Prompts are encoded again where the text encoder is another; a delta that cannot be used changes nothing."""
    expected = {name: latents(folder / name) for name in ("base", "slow", "talk")}
    with mochi_aot.load(folder / "base", delta=folder / "talk.delta") as pipe:
        for name, changed in (("talk", 0), ("slow", 2), ("base", 1), ("base", 0), ("talk", 1)):
            assert pipe.use_delta(None if name == "base" else folder / f"{name}.delta") == changed
            assert np.array_equal(pipe("red fox", **ASKED).latents, expected[name]), name
        for wrong in (folder / "base", tmp_path / "none"):
            with pytest.raises(BundleError, match="expected a delta"):
                pipe.use_delta(wrong)
        assert np.array_equal(pipe("red fox", **ASKED).latents, expected["talk"])
        with pytest.raises(BundleError, match="is for the bundle"):
            mochi_aot.load(folder / "slow", delta=folder / "talk.delta")


def test_both_are_signed_or_neither_runs(folder: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    keys, delta = tmp_path / "key.pub", folder / "slow.delta"
    assert command("sign", folder / "base", "--key", tmp_path / "key").exit_code == 0
    with pytest.raises(SignatureError, match=r"slow.delta: expected a signature by one of 1 trusted keys"):
        mochi_aot.load(folder / "base", require_signature=keys, delta=delta)
    with mochi_aot.load(folder / "base", require_signature=keys) as pipe, pytest.raises(SignatureError):
        pipe.use_delta(delta)
    done = command("sign", delta, "--key", tmp_path / "key")
    assert done.exit_code == 0 and OpenDelta.open(delta).id in done.output
    assert command("verify", delta, "--trusted", keys).exit_code == 0
    with mochi_aot.load(folder / "base", require_signature=keys, delta=delta) as pipe:
        pipe("red fox", **ASKED)


def test_the_command_line(folder: Path, tmp_path: Path) -> None:
    words = ["delta", folder / "base", folder / "slow", "-o", tmp_path / "out"]
    made = command(*words, "--json")
    base, style, delta = Bundle.open(folder / "base"), Bundle.open(folder / "slow"), OpenDelta.open(tmp_path / "out")
    nbytes = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert json.loads(made.stdout) == {
        **{"delta": str(tmp_path / "out"), "id": delta.id, "base": base.id, "style": style.id},
        **{"tuned": 0, "replaced": 1, "bytes": nbytes},
    }
    assert command(*words).exit_code == 4
    assert command(*words, "--force").exit_code == 0
    none = command("delta", folder / "base", folder / "base", "-o", tmp_path / "none")
    assert none.exit_code == 3 and "there is nothing for a delta to hold" in none.output
    for odd in ([], [folder / "slow", "--lora", tmp_path / "none"]):
        refused = command("delta", folder / "base", *odd, "-o", tmp_path / "none")
        assert refused.exit_code == 2 and "give the bundle STYLE, or --lora, and not both" in refused.output
    toy = command("delta", folder / "base", "--lora", tmp_path / "none", "-o", tmp_path / "none")
    assert toy.exit_code == 3 and "the model's configuration is not one of this compiler's" in toy.output
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_a_lora_without_a_style(tmp_path: Path) -> None:
    """On a bundle whose checkpoint is gone; the whole of it is in tests/semantic/test_lora.py."""
    checkpoint, base, lora = (tmp_path / name for name in ("checkpoint", "base", "lora"))
    write_checkpoint(checkpoint, TINY, "diffusers")
    mochi_aot.compile(checkpoint, output=base, target="torch", mesh="1x2", geometries="16x16x7")
    shutil.rmtree(checkpoint)
    write_seeded_lora(lora, TINY.dit, 4, 1)
    words = ["delta", base, "--lora", f"{lora}:0.5", "-o", tmp_path / "out"]
    made = json.loads(command(*words, "--json").stdout)
    opened = OpenDelta.open(tmp_path / "out")
    assert made["style"] is None and made["id"] == opened.id and made["replaced"] == 0 < made["tuned"]
    assert opened.delta.checkpoint["lora"] == "lora:0.5" and "identity" not in opened.delta.checkpoint
    assert made["bytes"] <= 1.1 * sum(map(factor_bytes, opened.delta.factors))
    assert {product.scale for weight in opened.delta.tuned for product in weight.products} == {0.5}
    plain = latents(base)
    assert not np.array_equal(latents(base, tmp_path / "out"), plain)
    with mochi_aot.load(base, delta=tmp_path / "out") as pipe:
        pipe.use_delta(None)
        assert np.array_equal(pipe("red fox", **ASKED).latents, plain)
    nothing = command("delta", base, "--lora", f"{lora}:0", "-o", tmp_path / "none")
    assert nothing.exit_code == 3 and "lora:0 changes nothing: its strength is 0" in nothing.output
    absent = command("delta", base, "--lora", tmp_path / "none", "-o", tmp_path / "none")
    assert absent.exit_code == 3 and "none is missing: give the file of a LoRA" in absent.output
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_styles_of_a_bundle_in_float8(tmp_path: Path) -> None:
    """Products are not added to numbers of 8 bits: a delta of two bundles has whole weights, and one of LoRAs alone is
    refused in a line. What a LoRA does not touch is the base's, also where a style is compiled again."""
    checkpoint, base, style, lora = (tmp_path / name for name in ("checkpoint", "base", "style", "lora"))
    write_checkpoint(checkpoint, TINY, "diffusers")
    write_seeded_lora(lora, TINY.dit, 4, 1)
    options: dict[str, Any] = {"target": "torch", "mesh": "1x2", "geometries": "16x16x7", "weights_dtype": "float8"}
    mochi_aot.compile(checkpoint, output=base, **options)
    made = mochi_aot.compile(checkpoint, output=style, loras=f"{lora}:0.5", reuse=base, **options)
    assert made.weight_bytes_reused > 0.5 * made.weight_bytes_on_disk
    done = command("delta", base, style, "-o", tmp_path / "delta", "--json")
    opened = OpenDelta.open(tmp_path / "delta")
    assert json.loads(done.stdout)["tuned"] == 0 < len(opened.delta.weights)
    names = [weight.name for weight in opened.delta.weights]
    assert {weight.dtype for weight in opened.delta.weights} == {"float8", "float32"}
    assert len([name for name in names if ":scales" in name]) <= len([name for name in names if "/float8" in name])
    assert np.array_equal(latents(base, tmp_path / "delta"), latents(style))
    assert not np.array_equal(latents(base), latents(style))
    refused = command("delta", base, "--lora", lora, "-o", tmp_path / "none")
    assert refused.exit_code == 3 and refused.output.splitlines()[-1].startswith("error: lora:1: dit.blocks.0.attn")
    assert "weight is not held as a matrix that products can be added to: compile the style with" in refused.output
    assert not (tmp_path / "none").exists()
