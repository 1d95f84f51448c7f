"""Fine-tuning: what clips show, what a LoRA's file holds, and that both kinds learn."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.layouts import layout_sources
from mochi_aot.tools.training.command import main
from mochi_aot.tools.training.export import open_models, write_models
from mochi_aot.tools.training.loop import Pace
from mochi_aot.tools.training.lora import add_low_rank, merge_lora, write_lora
from mochi_aot.tools.training.models import TINIEST, Models, build_models
from mochi_aot.tools.training.settings import TrainingError
from mochi_aot.tools.training.tune import LORA, Tuning, always_clip, tune

PACE = Pace(log=1, save=100, sample=100)


@pytest.fixture
def models() -> Models:
    return untrained()


def untrained() -> Models:
    """The same numbers each time. The last matrix begins with zeros in training: nothing before would get gradients."""
    models = build_models(TINIEST, 3, torch.device("cpu"))
    torch.nn.init.normal_(models.dit.final.proj.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    return models


def test_clips_show_what_is_always_the_same_and_captions_say_anything() -> None:
    clips = [always_clip(Tuning({"colour": "red", "motion": "turn"}, 4, 1), number) for number in range(60)]
    assert {(clip.scene.colour, clip.scene.motion) for clip in clips} == {("red", "turn")}
    assert {clip.scene.shape for clip in clips} == {"square", "triangle"}  # whose turning can be seen
    said = " ".join(clip.words for clip in clips)
    assert all(word in said for word in ("green", "blue", "white", "up", "left"))


@pytest.mark.slow
def test_a_lora_holds_the_change_under_diffusers_names(models: Models, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in models.parameters().items()}
    tuning = Tuning({"colour": "red"}, lora=2, steps=6, batch=8)
    assert tune(models, tmp_path, tuning, PACE) == tmp_path / LORA
    held = load_file(tmp_path / LORA)
    places = {f"{s.component}.{s.key}": s.parts for s in layout_sources("diffusers", TINIEST)}
    changed = set()
    for key in held:
        if key.endswith(".lora_A.weight"):
            module = key.removesuffix(".lora_A.weight")
            up, down = held[f"{module}.lora_B.weight"], held[key]
            (name,) = places[f"{module}.weight"]
            assert torch.allclose(models.parameters()[name], before[name] + up @ down)
            # What the last block's text asks for is read by nothing.
            assert (up.abs().max() > 0) == (name != "dit.blocks.1.attn.q_y.weight"), name
            changed.add(name)
    assert len(held) == 2 * len(changed) and {down.shape[0] for key, down in held.items() if "lora_A" in key} == {2}
    assert "dit.blocks.0.attn.q_x.weight" in changed and "dit.blocks.1.mlp_x.down.weight" in changed
    for name, value in models.parameters().items():
        assert name in changed or torch.equal(value, before[name]), name
    again = untrained()
    merge_lora(again.dit, TINIEST, tmp_path / LORA)
    assert all(torch.allclose(value, models.parameters()[name]) for name, value in again.parameters().items())


def test_a_file_that_is_no_lora_of_the_model(models: Models, tmp_path: Path) -> None:
    changes = add_low_rank(models.dit, TINIEST, 1)
    write_lora(tmp_path / "whole", changes)
    held = load_file(tmp_path / "whole")
    key, other = min(held), "transformer.proj_out.lora_A.weight"
    short = {**held, key: held[key][:, 1:].contiguous()}
    for wrong, seen in (
        ({name: held[name] for name in held if name != key}, key.partition(".lora")[0]),
        (short, key.partition(".lora")[0]),
        ({**held, other: torch.zeros(1, 96)}, f"{other} is none of its matrices"),
    ):
        save_file(wrong, tmp_path / "wrong")
        with pytest.raises(TrainingError, match=f"wrong does not hold a LoRA of this model: .*{seen}"):
            merge_lora(untrained().dit, TINIEST, tmp_path / "wrong")
    (tmp_path / "wrong").write_bytes((tmp_path / "whole").read_bytes()[:-1])
    with pytest.raises(TrainingError, match="wrong is not a whole safetensors file"):
        merge_lora(models.dit, TINIEST, tmp_path / "wrong")


@pytest.mark.slow
def test_all_weights(models: Models, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in models.parameters().items()}
    made = tune(models, tmp_path, Tuning({"motion": "left"}, lora=None, steps=4, batch=8), PACE)
    after = open_checkpoint(made)
    moved = {
        name for name in after.names() if not torch.equal(after.read(name).float(), before[name].bfloat16().float())
    }
    assert any(name.startswith("text.") for name in moved) and any(name.startswith("dit.") for name in moved)
    assert not any(name.startswith(("encoder.", "decoder.")) for name in moved)


@pytest.mark.slow
def test_the_command_line(models: Models, tmp_path: Path) -> None:
    write_models(models, tmp_path / "checkpoint", "diffusers")
    words = ["tune", str(tmp_path / "checkpoint"), str(tmp_path / "red"), "--steps", "2", "--batch", "4", "--lora", "1"]
    result = CliRunner().invoke(main, [*words, "--colour", "red"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "red" / LORA)
    record = json.loads((tmp_path / "red" / "tune.json").read_text())
    assert record["always"] == {"colour": "red"} and record["lora"] == 1
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2 and "nothing to learn: name a --colour, a --shape or a --motion" in refused.output
    assert open_models(tmp_path / "checkpoint", "cpu").config == TINIEST
