"""mochi-bench traffic: what it counts, adds up and prints."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.programs import DenoiseStep
from mochi_aot.tools.benchmarks import traffic
from mochi_aot.tools.benchmarks.one_prompt import OnePrompt
from mochi_aot.tools.benchmarks.traffic import OURS, RUNS, THEIRS, ProgramTraffic
from mochi_aot.tools.benchmarks.traffic_report import traffic_numbers, traffic_report
from mochi_aot.tools.commands.bench import main


def program(scheme: str, role: str, sent: int, mesh: tuple[int, int] = (2, 4)) -> ProgramTraffic:
    runs = RUNS[scheme][role]
    return ProgramTraffic(scheme, role, mesh, "sp1tp0", scheme == THEIRS, 10, {"all_gather": 3}, sent, 2 * 10**9, runs)


PROGRAMS = [
    program(OURS, "prepare_steps", 40 * 10**6),
    program(OURS, "denoise", 10**6),
    program(THEIRS, "denoise", 10**6),
    program(THEIRS, "decode", 80 * 10**6, (1, 8)),
]


def test_a_step_and_a_video() -> None:
    """Theirs runs twice a step."""
    numbers = traffic_numbers(PROGRAMS)
    assert numbers["step_bytes"] == {OURS: 10**6, THEIRS: 2 * 10**6}
    assert numbers["video_bytes"] == {OURS: (64 + 40) * 10**6, THEIRS: (128 + 80) * 10**6}
    assert numbers["step_ratio"] == numbers["video_ratio"] == 0.5
    assert [p["modelled"] for p in numbers["programs"]] == [False, False, True, True]


def test_the_report() -> None:
    named = {
        "config": "mochi-1",
        "mesh": "2x4",
        "geometry": "480x848x163",
        "weights_dtype": "bfloat16",
        "links_dtype": "bfloat8_b",
    }
    lines = traffic_report({**named, **traffic_numbers(PROGRAMS)}).splitlines()
    assert lines[:9] == [
        "mochi-1, 480x848x163, mesh 2x4, mochi-aot with weights in bfloat16 and sending bfloat8_b",
        "",
        "scheme             program        mesh  plan    runs a video  ops  collectives   sent  peak",
        "mochi-aot          prepare_steps   2x4  sp1tp0             1   10            3  40 MB  2 GB",
        "mochi-aot          denoise         2x4  sp1tp0            64   10            3   1 MB  2 GB",
        "TT-DiT (modelled)  denoise         2x4  sp1tp0           128   10            3   1 MB  2 GB",
        "TT-DiT (modelled)  decode          1x8  sp1tp0             1   10            3  80 MB  2 GB",
        "",
        "a step: mochi-aot 1 MB, TT-DiT 2 MB (modelled): 0.50 of it",
    ]


def test_a_mesh_that_only_we_have() -> None:
    numbers = traffic_numbers(PROGRAMS[:2])
    assert "step_ratio" not in numbers
    named = {
        "config": "mochi-1",
        "mesh": "1x2",
        "geometry": "480x848x163",
        "weights_dtype": "bfloat16",
        "links_dtype": "bfloat8_b",
    }
    text = traffic_report({**named, **numbers})
    assert "a step: mochi-aot 1 MB\n" in text and text.endswith("no scheme of TT-DiT's is published for this mesh")
    assert traffic.their_traffic(TINY, Geometry(48, 80, 13), (1, 2)) == []


def test_the_command(tmp_path: Path) -> None:
    """A small model on the smaller of the meshes with a comparison."""
    arguments = ["traffic", "--config", "bench", "--mesh", "2x4", "--geometry", "64x64x91"]
    result = CliRunner().invoke(main, [*arguments, "--json", str(tmp_path / "o.json")])
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "o.json").read_text())
    by_key = {(p["scheme"], p["role"]): p for p in numbers["programs"]}
    assert {role for scheme, role in by_key if scheme == OURS} >= {"encode_text", "prepare_steps", "denoise"}
    assert {role for scheme, role in by_key if scheme == THEIRS} == {"denoise", "decode"}
    assert by_key[OURS, "denoise"]["collectives"]["ring_joint_scaled_dot_product_attention"] > 0
    assert 0 < numbers["step_ratio"] < 1
    assert numbers["step_bytes"][THEIRS] == 2 * by_key[THEIRS, "denoise"]["sent_bytes"]
    assert all(p["peak_bytes"] > 0 for p in numbers["programs"])
    assert "TT-DiT (modelled)" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--mesh", "2by4"], 2, "error: mesh '2by4' is not RxC"),
        (["--mesh", "2x4", "--geometry", "big"], 2, "error: geometry 'big' is not HxWxF"),
        (["--mesh", "2x4", "--config", "/nowhere"], 3, "error: "),
        (
            ["--mesh", "2x4", "--config", "bench", "--geometry", "32x32x7"],
            6,
            "error: TT-DiT's scheme does not fit this model and video: plan h0t1-gathered, program decode",
        ),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["traffic", *arguments])
    assert result.exit_code == code
    *phases, error = result.stderr.splitlines()
    assert error.startswith(message) and {"loading what is measured"} <= set(phases)


def test_one_prompt_at_a_time_is_a_guided_step() -> None:
    geometry, scale = Geometry(32, 48, 13), 4.5
    step, one = DenoiseStep(TINY, geometry).eval(), OnePrompt(TINY, geometry).eval()
    generator = torch.Generator().manual_seed(1)
    weights = {k: torch.randn(v.shape, generator=generator) * 0.1 for k, v in step.state_dict().items()}
    step.load_state_dict(weights)
    one.load_state_dict(weights)
    shape = (1, TINY.text_length, TINY.dit.caption_width)
    latents = torch.randn(1, TINY.dit.in_channels, *geometry.latent_size(TINY), generator=generator)
    embeds = [torch.randn(shape, generator=generator) for _ in range(2)]
    masks = [torch.arange(TINY.text_length)[None] < count for count in (5, 0)]
    sigma, next_sigma = torch.tensor([0.8]), torch.tensor([0.7])
    with torch.no_grad():
        positive, negative = (one(latents, sigma, e, m) for e, m in zip(embeds, masks, strict=True))
        expected = step(latents, sigma, next_sigma, torch.tensor([scale]), embeds[0], masks[0], embeds[1], masks[1])
    guided = latents + (sigma - next_sigma) * (negative + scale * (positive - negative))
    np.testing.assert_allclose(guided, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
