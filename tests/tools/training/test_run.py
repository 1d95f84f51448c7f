"""A short training run: losses fall, a stopped run goes on to the same bits, and its checkpoints are the same model."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.tools.training.command import main
from mochi_aot.tools.training.export import open_models, write_models
from mochi_aot.tools.training.loop import Pace, Stage
from mochi_aot.tools.training.models import TINIEST, Models
from mochi_aot.tools.training.release import TRAINING
from mochi_aot.tools.training.run import Hardware, load_run, train
from mochi_aot.tools.training.settings import Settings, StageSettings, TrainingError
from mochi_aot.tools.training.shipped import CARD

STEPS = {"vae": 24, "dit": 32}
SETTINGS = Settings(
    model="tiniest",
    component_clips=16,
    vae=StageSettings(STEPS["vae"], batch=4, learning_rate=1e-3, warmup=2, ema=0.5),
    vae_frames=(7,),
    statistics_clips=1,
    dit=StageSettings(STEPS["dit"], batch=16, learning_rate=3e-3, warmup=2, ema=0.5, muon=True),
    pool_chunks=4,
    chunk=4,
    refresh_every=4,
)
PACE = Pace(log=1, save=100, sample=100)

pytestmark = pytest.mark.slow


def same(one: Models, other: Models) -> bool:
    return all(torch.equal(value, other.parameters()[name]) for name, value in one.parameters().items())


def losses(folder: Path, stage: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["stage"] == stage]


def stops_at(name: str, step: int) -> Callable[[Stage, torch.Tensor], None]:
    """In place of Stage._update: one that is interrupted before step `step` of the stage."""
    update = Stage._update

    def update_or_stop(stage: Stage, loss: torch.Tensor) -> None:
        if stage.name == name and stage.step == step:
            raise KeyboardInterrupt
        update(stage, loss)

    return update_or_stop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training") / "run"
    train(path, SETTINGS, Hardware(), PACE)
    return path


@pytest.fixture(scope="module")
def models(folder: Path) -> Models:
    return load_run(folder)


@pytest.mark.parametrize("stage", ["vae", "dit"])
def test_losses_are_logged_and_fall(folder: Path, stage: str) -> None:
    values = losses(folder, stage)
    third = STEPS[stage] // 3  # batches differ in how bright they are
    assert len(values) == STEPS[stage] and all(math.isfinite(value) for value in values)
    assert np.mean(values[-third:]) < 0.9 * np.mean(values[:third])


def test_another_seed_gives_another_run(folder: Path, tmp_path: Path) -> None:
    """That the same one gives the same bits is what the next tests say, each of which runs from the start."""
    few = replace(SETTINGS, seed=1, vae=replace(SETTINGS.vae, steps=2), dit=replace(SETTINGS.dit, steps=2))
    train(tmp_path, few, Hardware(), PACE)
    for stage in STEPS:
        assert losses(tmp_path, stage)[0] != losses(folder, stage)[0]


@pytest.mark.parametrize("stopped", ["vae", "dit"])
def test_a_stopped_run_goes_on_to_the_same_bits(
    folder: Path, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Stage, "_update", stops_at(stopped, STEPS[stopped] // 2))
        train(tmp_path, SETTINGS, Hardware(), replace(PACE, save=STEPS[stopped] // 2))
    assert same(train(tmp_path, SETTINGS, Hardware(), PACE), models)
    assert losses(tmp_path, "dit") == losses(folder, "dit")


def test_a_deadline_saves_and_stops(tmp_path: Path, models: Models) -> None:
    train(tmp_path, SETTINGS, Hardware(), replace(PACE, deadline=time.monotonic()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.json", "vae.pt"]
    assert same(train(tmp_path, SETTINGS, Hardware(), PACE), models)


def test_other_settings_are_refused(folder: Path) -> None:
    with pytest.raises(TrainingError, match=r"holds a run with other settings \(seed\); choose another folder"):
        train(folder, replace(SETTINGS, seed=5), Hardware(), PACE)


def test_steps_may_change_until_the_rate_falls(folder: Path, models: Models, tmp_path: Path) -> None:
    many = replace(SETTINGS, dit=replace(SETTINGS.dit, steps=1000))
    level = SETTINGS.dit.level
    assert level == STEPS["dit"] * 3 // 4
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Stage, "_update", stops_at("dit", level - 1))
        train(tmp_path, many, Hardware(), replace(PACE, save=1))
    assert same(train(tmp_path, SETTINGS, Hardware(), PACE), models)
    with pytest.raises(TrainingError, match=f"is at step {STEPS['dit']}, where the learning rate falls, of"):
        train(tmp_path, many, Hardware(), PACE)


def test_the_learning_rate() -> None:
    stage = StageSettings(steps=100, batch=1, warmup=9)
    assert stage.rate(0) == 0.1 and stage.rate(9) == stage.rate(74) == 1.0
    assert stage.rate(75) == 1.0 and stage.rate(90) == pytest.approx(0.4) and stage.rate(100) == 0.0


def test_muon_takes_the_matrices_of_blocks(models: Models) -> None:
    stage = Stage("dit", Path("nowhere"), models.generator(), SETTINGS.dit)
    adam, muon = ({id(p) for group in o.param_groups for p in group["params"]} for o in stage.optimizers)
    names = {id(parameter): name for name, parameter in models.generator().named_parameters()}
    assert not adam & muon and adam | muon == set(names)
    assert {names[key] for key in muon} >= {
        "dit.blocks.1.mlp_x.down.weight",
        "text.encoder.block.0.layer.0.SelfAttention.q.weight",
    }
    for other in (
        "dit.patch_embed.weight",
        "dit.final.proj.weight",
        "text.shared.weight",
        "dit.blocks.0.mlp_y.up.bias",
    ):
        assert not any(names[key] == other for key in muon)
    assert not any("relative_attention_bias" in names[key] for key in muon)


def test_settings_that_are_none(tmp_path: Path) -> None:
    for text in ("", "[]", '{"model": "small"}', '{"vae": {}, "dit": {}}'):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(TrainingError, match="does not hold the settings of a training run"):
            Settings.read(tmp_path / "settings.json")


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    steep = replace(SETTINGS, vae=replace(SETTINGS.vae, learning_rate=1e30))
    with pytest.raises(TrainingError, match="vae: loss is not a number at step"):
        train(tmp_path, steep, Hardware(), PACE)


def test_both_layouts_hold_the_same_model(models: Models, tmp_path: Path) -> None:
    for layout in ("genmo", "diffusers"):
        write_models(models, tmp_path / layout, layout)
    genmo, diffusers = (open_checkpoint(tmp_path / layout) for layout in ("genmo", "diffusers"))
    assert genmo.config == diffusers.config == TINIEST
    assert genmo.tokenizer_json() == diffusers.tokenizer_json()
    for name, value in models.parameters().items():
        kept = value if name == "dit.pos_frequencies" else value.bfloat16()
        assert torch.equal(genmo.read(name), kept) and torch.equal(diffusers.read(name), kept), name
    # One derived from the other.
    write_models(open_models(tmp_path / "diffusers", "cpu"), tmp_path / "derived", "genmo")
    for file in ("dit", "encoder", "decoder", "text_encoder/model"):
        name = f"{file}.safetensors"
        assert (tmp_path / "derived" / name).read_bytes() == (tmp_path / "genmo" / name).read_bytes()


def test_the_command_line(folder: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    out = tmp_path / "checkpoint"
    result = runner.invoke(main, ["export", str(folder), str(out), "--layout", "genmo"])
    assert result.exit_code == 0, result.output
    again = runner.invoke(main, ["export", str(folder), str(out), "--layout", "genmo"])
    assert again.exit_code == 4 and "exists" in again.output
    sheet = tmp_path / "sheet.png"
    result = runner.invoke(
        main, ["evaluate", str(out), "--prompts", "2", "--clips", "1", "--steps", "2", "--sheet", str(sheet)]
    )
    assert result.exit_code == 0, result.output
    clips, prompts = (json.loads(line) for line in result.output.splitlines())
    assert 5 < clips["psnr"] < 40 and prompts["prompts"] == 2 and 0 <= prompts["all"] <= 1
    assert all(share in (0.5, 1.0) for _, share in prompts["commonest"].values())
    assert sheet.read_bytes().startswith(b"\x89PNG")
    released = tmp_path / "released"
    options = ["--prompts", "2", "--clips", "1", "--steps", "2", "--sheet", str(sheet), "--force"]
    result = runner.invoke(main, ["release", str(folder), str(released), *options])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["psnr"] == pytest.approx(clips["psnr"], abs=1e-3)
    assert Settings.read(released / TRAINING) == Settings.read(folder / "settings.json")
    said = (released / CARD).read_text()
    assert "{" not in said and "on 2 prompts" in said and f"{prompts['shape']:.1%}" in said
    assert (released / "dit.safetensors").read_bytes() == (out / "dit.safetensors").read_bytes()
    assert sheet.read_bytes().startswith(b"\x89PNG") and open_models(released, "cpu").config == TINIEST
    stopped = runner.invoke(main, ["run", str(tmp_path / "new"), "--model", "tiniest", "--minutes", "0"])
    assert stopped.exit_code == 0, stopped.output
    assert Settings.read(tmp_path / "new" / "settings.json").model == "tiniest"
