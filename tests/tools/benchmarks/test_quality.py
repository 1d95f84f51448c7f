"""mochi-bench quality: what it compares, on a tiny seeded checkpoint; its report; what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.tools.benchmarks.quality import Asked, asked_prompts, measure_path
from mochi_aot.tools.benchmarks.quality_report import quality_report
from mochi_aot.tools.commands import bench
from mochi_aot.tools.training import evaluate
from mochi_aot.tools.training.render import render
from mochi_aot.tools.training.sampling import GEOMETRY
from mochi_aot.tools.training.scenes import clip_arrays, draw_clip
from mochi_aot.tools.training.vae_stage import to_bytes


def drawn(count: int) -> tuple[list[Asked], np.ndarray]:
    """Prompts, and clips that show what they say."""
    clips = [draw_clip(5, number) for number in range(count)]
    asked = [Asked(clip.words, number, clip.scene) for number, clip in enumerate(clips)]
    return asked, to_bytes(render(clip_arrays(clips), "cpu"))


def test_a_path_is_compared_video_by_video() -> None:
    asked, expected = drawn(4)
    videos = expected.copy()
    videos[1] = np.where(videos[1] > 127, videos[1] - 2, videos[1] + 2)  # an error of 4 in each sample of one video
    videos[3] = 0
    path = measure_path("path", asked[:3], videos[:3], expected.__getitem__)
    assert path.worst == pytest.approx(10 * np.log10(255**2 / 4))
    assert path.psnr == pytest.approx(10 * np.log10(255**2 / (4 / 3)))
    assert 0.9 < path.ssim < 1 and path.right == {"colour": 1, "shape": 1, "motion": 1, "all": 1}
    dark = measure_path("path", asked, videos, expected.__getitem__)
    assert dark.right == {"colour": 0.75, "shape": 0.75, "motion": 0.75, "all": 0.75}
    same = measure_path("same", asked, expected, expected.__getitem__)
    assert same.psnr is None and same.worst is None and same.ssim == pytest.approx(1.0)


def test_one_video_for_each_prompt() -> None:
    asked, expected = drawn(2)
    with pytest.raises(ValueError, match="shorter"):
        measure_path("path", asked, expected[:1], expected.__getitem__)


def test_prompts_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red fox\n\n  the sea at night  \n")
    assert asked_prompts(tmp_path / "prompts.txt", 64) == [Asked("a red fox", 0), Asked("the sea at night", 1)]
    held_out = asked_prompts(None, 3)
    assert len(held_out) == 3 and all(asked.scene is not None and asked.scene.held_out for asked in held_out)


@pytest.mark.slow
def test_a_checkpoint_and_prompts_of_a_users_own(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "mochi", TINY, "diffusers")
    (tmp_path / "prompts.txt").write_text("a red fox\nthe sea at night\n")
    words = ["--checkpoint", tmp_path / "mochi", "--prompts", tmp_path / "prompts.txt", "--geometry", "32x48x7"]
    words += ["--steps", "2", "--mesh", "1x1", "--mesh", "1x2", "--folder", tmp_path / "kept", "--json"]
    result = CliRunner().invoke(bench.main, ["quality", *map(str, words)])
    assert result.exit_code == 0, result.output
    numbers = json.loads(result.stdout)
    assert (numbers["prompts"], numbers["geometry"], numbers["steps"]) == (2, "32x48x7", 2)
    names = [f"torch {mesh} {dtype}" for mesh in ("1x1", "1x2") for dtype in ("float32", "bfloat16", "float8")]
    assert [path["name"] for path in numbers["paths"]] == names
    assert all(path["right"] is None for path in numbers["paths"])
    baseline, rounded, narrow, cut, *_ = numbers["paths"]
    assert baseline["psnr"] is None and baseline["ssim"] == 1.0
    # Random weights: bfloat16 is a few levels off, another order of summation nearly nothing.
    assert 20 < rounded["worst"] <= rounded["psnr"] < 60 and (cut["psnr"] or 100) > 60
    assert 15 < narrow["psnr"] < rounded["psnr"]
    again = ["--checkpoint", tmp_path / "mochi", "--prompts", tmp_path / "prompts.txt", "--geometry", "32x48x7"]
    again += ["--steps", "2", "--mesh", "1x1", "--dtype", "float32", "--bundle", tmp_path / "kept/1x2-float32.bundle"]
    result = CliRunner().invoke(bench.main, ["quality", *map(str, again)])
    assert result.exit_code == 0, result.output
    assert "\n1x2-float32.bundle " in result.stdout


def test_what_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench.main, ["quality", "--checkpoint", str(tmp_path)])
    assert result.exit_code == 2 and "--checkpoint wants --prompts FILE" in result.output
    (tmp_path / "prompts.txt").write_text("\n \n")
    result = CliRunner().invoke(bench.main, ["quality", "--prompts", str(tmp_path / "prompts.txt")])
    assert result.exit_code == 3 and "prompts.txt holds no prompt; write one on each line" in result.output


def numbers_of(right: dict[str, float] | None) -> dict[str, object]:
    base = {"name": "torch 1x1 float32", "psnr": None, "worst": None, "ssim": 1.0, "right": right}
    other = {"name": "torch 2x4 bfloat16", "psnr": 51.06, "worst": 48.0, "ssim": 0.99834, "right": right}
    return {"prompts": 4, "geometry": "64x96x19", "steps": 24, "guidance_scale": 4.5, "paths": [base, other]}


def test_the_report() -> None:
    assert quality_report(numbers_of({"colour": 1.0, "all": 0.875})).splitlines()[:5] == [
        "4 prompts, 64x96x19, 24 steps at guidance scale 4.5",
        "",
        "path                PSNR dB  worst    SSIM  colour    all",
        "torch 1x1 float32   equal    equal  1.0000  100.0%  87.5%",
        "torch 2x4 bfloat16  51.1     48.0   0.9983  100.0%  87.5%",
    ]
    assert quality_report(numbers_of(None)).splitlines()[2] == "path                PSNR dB  worst    SSIM"


def test_defaults_are_those_of_the_trained_model() -> None:
    options = {option.name: option.default for option in bench.quality.params}
    assert (options["steps"], options["scale"]) == (evaluate.STEPS, evaluate.GUIDANCE_SCALE)
    assert options["geometry"] == str(GEOMETRY)
