"""`mochi-bench gpu` by the code that a GPU would run, on the CPU, with the tiny model. No test looks at how long
anything took."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.seeded import seeded_parameter
from mochi_aot.compiler.reference.geometry import parse_geometry
from mochi_aot.tools.benchmarks import gpu_benchmark as measure
from mochi_aot.tools.benchmarks.gpu import loading
from mochi_aot.tools.benchmarks.gpu.cards import CARDS, card_named
from mochi_aot.tools.benchmarks.gpu.report import gpu_report
from mochi_aot.tools.benchmarks.gpu.seeds import DeviceSeeds
from mochi_aot.tools.benchmarks.step_benchmark import ResultsDifferError
from mochi_aot.tools.commands.bench import main

TINY_ON_CPU = ["gpu", "--size", "tiny", "--device", "cpu", "--dtype", "float32", "--no-compiled", "--repetitions", "1"]


def test_all_of_it(tmp_path: Path) -> None:
    """float32, where both sides agree to rounding; bounds are those of the code, 1e-4 and 0.05 levels."""
    options = ["--folder", str(tmp_path / "f"), "--json", str(tmp_path / "o.json")]
    result = CliRunner().invoke(main, [*TINY_ON_CPU, *options])
    assert result.exit_code == 0, result.output
    assert "share of the peak" not in result.stdout  # of a card that nobody knows
    assert not list((tmp_path / "f").iterdir())
    numbers = json.loads((tmp_path / "o.json").read_text())
    step, decode, load = numbers["step"], numbers["decode"], numbers["loading"]
    assert 0 < step["difference"] <= step["tolerance"] == 1e-4
    assert 0 <= decode["difference_levels"] <= decode["tolerance_levels"] == 0.05
    assert set(step["seconds"]) == {"bundle", "diffusers"} and step["failed"] == {}
    assert set(decode["seconds"]) == {"bundle", "diffusers", "diffusers, tiled"} and decode["failed"] == {}
    assert all(len(spread["all"]) == 1 for part in (step, decode) for spread in part["seconds"].values())
    assert set(numbers["attention"]["seconds"]) == {"flash attention"}  # the one of these that torch has for CPUs
    assert set(numbers["attention"]["failed"]) == {"cudnn attention", "efficient attention"}
    assert load["nbytes"] == 3 << 20 and min(load["warm"], load["bus"], load["plain"]) > 0
    assert numbers["device"] == "cpu" and numbers["peak_flops"] is None


def test_a_step_in_float8_beside_bfloat16() -> None:
    """Nearer to diffusers' than the bound, and further than bfloat16; a third fewer bytes of weights, in a model whose
    text and modulations are larger beside its blocks than the full one's."""
    asked, seeds = measure.Asked("tiny", "bfloat16", "cpu", False, 1), seeds_of("bfloat16")
    step = measure._measure_step(asked, parse_geometry("32x48x7"), seeds, lambda phase: None)
    assert step["difference"] < step["float8_difference"] <= step["float8_tolerance"] == 0.5
    assert set(step["seconds"]) == {"bundle", "diffusers", "bundle, float8"}
    assert step["weight_bytes"]["bundle, float8"] < 0.67 * step["weight_bytes"]["bundle"]


def seeds_of(dtype: str) -> DeviceSeeds:
    return DeviceSeeds(parameter_shapes(TINY), getattr(torch, dtype), "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a host without a GPU")
def test_without_a_gpu() -> None:
    result = CliRunner().invoke(main, ["gpu"])
    assert result.exit_code == ExitCode.DEVICE
    assert result.stderr.splitlines()[-1] == "error: device cuda: torch finds no usable GPU here; use cpu"


def test_a_size_that_no_host_is_for() -> None:
    result = CliRunner().invoke(main, ["gpu", "--device", "cpu"])
    assert result.exit_code == ExitCode.USAGE
    assert "--device cpu wants --size tiny" in result.stderr


def test_frames_that_differ_are_not_timed() -> None:
    """The first 55 frames are others in diffusers; any later one counts."""
    ours = np.full((67, 2, 2, 3), 100, np.uint8)
    theirs = ours.copy()
    theirs[:55] = 0
    assert measure._check_frames(ours, theirs, "float32") == 0
    theirs[66] = 101
    with pytest.raises(
        ResultsDifferError, match=r"differ from diffusers' by 0\.083 levels in the mean, expected at most"
    ):
        measure._check_frames(ours, theirs, "float32")


def test_other_bytes_on_the_device_are_not_timed() -> None:
    with pytest.raises(ResultsDifferError, match="other bytes arrived on the device"):
        loading._check([torch.zeros(4, dtype=torch.uint8)], [memoryview(bytearray((0, 0, 1, 0)))])


def test_what_does_not_run_is_said() -> None:
    def full() -> np.ndarray:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 17 GiB")

    runs, failed = measure.running({"bundle": lambda: np.zeros(1), "diffusers": full}, ["diffusers"])
    assert list(runs) == ["bundle"]
    assert failed["diffusers"].startswith("CUDA out of memory. Tried to allocate 17 GiB")


def test_turns_end_when_there_was_enough_time(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert [len(all) for all in measure.in_turns(runs, 2).values()] == [2, 2]
    assert order == ["a", "b", "a", "b"]
    monkeypatch.setattr(measure, "_ENOUGH_SECONDS", 0.0)
    assert [len(all) for all in measure.in_turns(runs, 9).values()] == [1, 1]


def test_seeds_have_the_laws_of_a_seeded_checkpoint() -> None:
    """Other numbers of the same mean and spread; frequencies are the same numbers."""
    shapes = parameter_shapes(TINY)
    seeds = DeviceSeeds(shapes, torch.bfloat16, "cpu")
    for name in ("dit.blocks.0.mlp_x.gate.weight", "dit.blocks.0.attn.proj_x.bias", "decoder.block_in.0.norm1.weight"):
        made, drawn = seeds.read(name), seeded_parameter(name, shapes[name], 0)
        assert made.dtype is torch.bfloat16 and made.shape == drawn.shape
        # Of n numbers, mean and spread are known to about n^-0.5; the smallest parameter has 64.
        near = 5 * float(drawn.std()) / len(drawn.flatten()) ** 0.5
        assert abs(float(made.float().mean() - drawn.mean())) < near
        assert abs(float(made.float().std() - drawn.std())) < near
        assert torch.equal(seeds.read(name, (slice(1, 3),)), made[1:3])
    frequencies = "dit.pos_frequencies"
    assert torch.equal(seeds.read(frequencies), seeded_parameter(frequencies, shapes[frequencies], 0))


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989.5),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", 70),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("Tesla T4", None),
        ("cpu", None),
    ],
)
def test_cards_by_the_names_that_torch_has(name: str, teraflops: float | None) -> None:
    card = card_named(name)
    assert (card and card.flops / 1e12) == (None if teraflops is None else pytest.approx(teraflops))


def test_every_card_is_found_by_its_own_name() -> None:
    assert [card_named(f"NVIDIA {card.name}") for card in CARDS] == list(CARDS)


def test_the_report_of_a_gpu() -> None:
    """Shares of the peak: 4e15 in 8 s is half of 1e15 a second."""
    spread = {"median": 8.0, "low": 8.0, "high": 8.0, "all": [8.0]}
    part = {
        "geometry": "480x848x163",
        "flops": 4e15,
        "seconds": {"bundle": spread},
        "memory": {"bundle": 8e9},
        "failed": {"diffusers": "CUDA out of memory"},
    }
    attention = {**part, "seconds": {"flash attention": {**spread, "median": 0.04}}, "flops": 1e13, "failed": {}}
    step = {**part, "difference": 0.01, "tolerance": 0.1, "weight_bytes": {"bundle": 15e9, "diffusers": None}}
    decode = {**part, "difference_levels": 0.5, "tolerance_levels": 4.0}
    rates = {"disk": 2e9, "bus": 25e9, "cold": None, "warm": 12e9, "plain": 6e9}
    text = gpu_report(
        {
            "machine": {"cpu": "abacus"},
            "device": "NVIDIA Abacus",
            "size": "full",
            "preset": "mochi-1",
            "dtype": "bfloat16",
            "peak_flops": 1e15,
            "peak_source": "its box",
            "libraries": "CUDA 1",
            "step": step,
            "attention": attention,
            "decode": decode,
            "loading": {"nbytes": 4e9, **rates},
        }
    )
    lines = text.splitlines()
    assert lines.count("share of the peak: bundle 0.50") == 2
    assert "share of the peak: flash attention 0.25" in lines
    assert lines.count("diffusers does not run: CUDA out of memory") == 2
    assert "dense bfloat16 peak 1 PFLOP/s (its box)" in lines
    assert "weights: bundle 15 GB" in lines and lines.count("most besides weights: bundle 8 GB") == 2
    assert "file on the disk, by the ring    not measured here" in lines
