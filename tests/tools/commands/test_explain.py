"""mochi-compile --explain: which plans are considered, as a table and as JSON, with nothing written."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import DECODER_PLANS, ENCODER_PLANS, TEXT_PLANS, TRANSFORMER_PLANS
from mochi_aot.tools.commands.compile import main
from tests.compiler.lora.made import genmo_lora

# 2 of the height's 4 latent rows on a device, 3 latent frames: t0 cannot be cut in 4 for a halo of 2.
MESH, SIZE = "4x2", "32x32x13"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explained") / "mochi"
    write_checkpoint(path, TINY, "diffusers")
    return path


def explain(checkpoint: Path, *arguments: str) -> Result:
    words = [
        "--checkpoint",
        str(checkpoint),
        "--mesh",
        MESH,
        "--geometry",
        SIZE,
        "--target",
        "torch",
        "--explain",
        "--with-encoder",
    ]
    result = CliRunner().invoke(main, [*words, *arguments], env={"MOCHI_CHECKPOINT": None})
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]
    return result


def test_json_has_every_plan_with_its_figures_and_one_chosen_for_each_family(checkpoint: Path) -> None:
    result = explain(checkpoint, "--json")
    assert result.exit_code == 0, result.output
    numbers = json.loads(result.stdout)
    assert (numbers["mesh"], numbers["target"], numbers["memory_bytes"]) == ([4, 2], "torch", None)
    by_program = {programs: [p for p in numbers["plans"] if p["programs"][-1] == programs] for programs in ROLES}
    assert {role: [p["plan"] for p in plans] for role, plans in by_program.items()} == ROLES
    for plans in by_program.values():
        chosen = [p for p in plans if p["chosen"]]
        worked = [p for p in plans if p["run_seconds"] is not None]
        assert len(chosen) == 1
        assert chosen[0]["why"] == "chosen"
        assert chosen[0]["video_seconds"] == min(p["video_seconds"] for p in worked)
        assert all(p["peak_bytes"] > p["weight_bytes"] >= 0 and p["sent_bytes"] >= 0 for p in worked)
        assert all(p["why"] and p["video_seconds"] is None for p in plans if p not in worked)
    (rows,) = (p for p in by_program["denoise"] if p["plan"] == "gp0sp1")
    assert rows["run_seconds"] is None
    assert "does not divide by the 4 devices of mesh axis 0" in rows["why"]


def considered(plans: Mapping[str, Plan]) -> list[str]:
    """Plans of last resort are tried only where there is no other, which is so for none of these programs."""
    return [name for name, plan in plans.items() if not plan.last_resort]


ROLES = {
    "encode_text": considered(TEXT_PLANS),
    "denoise": considered(TRANSFORMER_PLANS),
    "decode": considered(DECODER_PLANS),
    "encode": considered(ENCODER_PLANS),
}


def test_the_table_has_a_line_for_each_plan_and_says_why_it_lost(checkpoint: Path) -> None:
    result = explain(checkpoint, "--plan", "gp1sp0")
    assert result.exit_code == 0, result.output
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["program", "plan", "seconds", "sent", "weights", "peak", "why"]
    (named,) = (line for line in lines if line.startswith("denoise "))
    assert named.split()[1] == "gp1sp0"
    assert named.endswith("named")
    decoders = {line.split()[1]: line for line in lines if line.startswith("decode ")}
    assert list(decoders) == ROLES["decode"]
    assert sum(line.endswith("chosen") for line in decoders.values()) == 1
    assert decoders["t0h1"].endswith("cut it less often")
    assert "modelled, not measured" in result.stdout


def test_what_loras_touch(checkpoint: Path, tmp_path: Path) -> None:
    """Of Genmo's kind: in each block q, k and v of both streams and what follows them; no text follows the last."""
    factors = genmo_lora(tmp_path / "style.safetensors")
    result = explain(checkpoint, "--plan", "gp1sp0", "--lora", f"{tmp_path}/style.safetensors:0.5", "--json")
    assert result.exit_code == 0, result.output
    touched = json.loads(result.stdout)["touched_by_loras"]
    changed = sum(up.shape[0] * down.shape[1] for up, down in products(factors))
    assert (touched["loras"], touched["parameters"]) == ("style.safetensors:0.5", 4 * 4 - 1)
    assert touched["nbytes"] == 2 * changed < touched["of_nbytes"]
    result = explain(checkpoint, "--lora", str(tmp_path / "none"))
    assert result.exit_code == ExitCode.INPUT and "none is missing: give the file of a LoRA" in result.stderr


def products(factors: dict[str, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each module's up and down."""
    return [(factors[key[:-1] + "B"], down) for key, down in factors.items() if key.endswith("A")]


def test_arch_is_listened_to(checkpoint: Path) -> None:
    """As in a compile, where torch has no chips."""
    result = explain(checkpoint, "--arch", "galaxy")
    assert result.exit_code == ExitCode.USAGE and "arch galaxy is for target ttnn" in result.stderr


def test_a_plan_that_cannot_work_ends_as_a_compile_would(checkpoint: Path) -> None:
    result = explain(checkpoint, "--plan", "gp0sp1")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stdout == ""
    assert "mesh 4x2: no plan works; plan gp0sp1" in result.stderr
