"""A short training run: losses fall, a stopped run goes on to the same bits, and its checkpoints are the same model."""

import json
import math
import time
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
from mochi_aot.tools.training.models import TINIEST, Models, build_models
from mochi_aot.tools.training.run import Hardware, load_run, train
from mochi_aot.tools.training.settings import Settings, StageSettings, TrainingError
from mochi_aot.tools.training.vae_stage import scale_latents

STEPS = {"vae": 24, "dit": 18}
SETTINGS = Settings(
    model="tiniest",
    vae=StageSettings(STEPS["vae"], batch=2, learning_rate=3e-3, warmup=2, ema=0.5),
    vae_frames=(1,),
    statistics_clips=1,
    dit=StageSettings(STEPS["dit"], batch=16, learning_rate=3e-3, warmup=2, ema=0.5),
    pool_chunks=2,
    chunk=2,
    refresh_every=3,
)
PACE = Pace(log=1, save=100, sample=100)

pytestmark = pytest.mark.slow


def same(one: Models, other: Models) -> bool:
    return all(torch.equal(value, other.parameters()[name]) for name, value in one.parameters().items())


def losses(folder: Path, stage: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["stage"] == stage]


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


def test_the_same_settings_give_the_same_bits(folder: Path, models: Models, tmp_path: Path) -> None:
    assert same(train(tmp_path / "again", SETTINGS, Hardware(), PACE), models)
    other = train(tmp_path / "other", replace(SETTINGS, seed=1), Hardware(), PACE)
    assert not same(other, models)


@pytest.mark.parametrize("stopped", ["vae", "dit"])
def test_a_stopped_run_goes_on_to_the_same_bits(
    folder: Path, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    update = Stage._update

    def fails_half_way(stage: Stage, loss: torch.Tensor) -> None:
        if stage.name == stopped and stage.step == STEPS[stopped] // 2:
            raise KeyboardInterrupt
        update(stage, loss)

    monkeypatch.setattr(Stage, "_update", fails_half_way)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, SETTINGS, Hardware(), replace(PACE, save=STEPS[stopped] // 2))
    monkeypatch.setattr(Stage, "_update", update)
    assert same(train(tmp_path, SETTINGS, Hardware(), PACE), models)
    assert losses(tmp_path, "dit") == losses(folder, "dit")


def test_a_deadline_saves_and_stops(tmp_path: Path, models: Models) -> None:
    train(tmp_path, SETTINGS, Hardware(), replace(PACE, deadline=time.monotonic()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.json", "vae.pt"]
    assert same(train(tmp_path, SETTINGS, Hardware(), PACE), models)


def test_other_settings_are_refused(folder: Path) -> None:
    with pytest.raises(TrainingError, match=r"holds a run with other settings \(seed\); choose another folder"):
        train(folder, replace(SETTINGS, seed=5), Hardware(), PACE)


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


@torch.no_grad()
def test_scaling_the_latents_changes_no_picture() -> None:
    models = build_models(TINIEST, 3, torch.device("cpu"))
    video = torch.randn(1, 7, 16, 16, 3, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    latents = models.encoder(video)
    before = models.decoder(latents)
    std, mean = torch.std_mean(latents.flatten(0, -2), dim=0)
    left = scale_latents(models, mean, std)
    scaled = models.encoder(video)
    target_mean, target_std = (torch.tensor(v) for v in (TINIEST.vae.latents_mean, TINIEST.vae.latents_std))
    assert torch.allclose(scaled.flatten(0, -2).std(dim=0), target_std, rtol=1e-4)
    assert torch.allclose((scaled.flatten(0, -2).mean(dim=0) - target_mean) / target_std, left, atol=1e-4)
    assert (models.decoder(scaled) - before).abs().max() < 1e-4  # float32


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
    assert sheet.read_bytes().startswith(b"\x89PNG")
    stopped = runner.invoke(main, ["run", str(tmp_path / "new"), "--model", "tiniest", "--minutes", "0"])
    assert stopped.exit_code == 0, stopped.output
    assert Settings.read(tmp_path / "new" / "settings.json").model == "tiniest"
