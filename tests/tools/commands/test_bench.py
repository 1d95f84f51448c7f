"""mochi-bench: what it compares and reports. No test looks at how long anything took."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mochi_aot.artifacts import MochiError
from mochi_aot.artifacts.layout import MODEL_DTYPES
from mochi_aot.artifacts.validate_program import check_program
from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.tools.benchmarks import compile_benchmark, machine, report, step_benchmark, timing
from mochi_aot.tools.benchmarks.overhead import SPEC, additions, instruction_overhead
from mochi_aot.tools.benchmarks.step_benchmark import ResultsDifferError, check_equal, step_report
from mochi_aot.tools.commands.bench import main


def test_a_step(tmp_path: Path) -> None:
    """The tiniest model: both sides give the same latents, and every number is there and possible."""
    result = CliRunner().invoke(main, ["step", "--size", "tiny", "--threads", "1", "--json", str(tmp_path / "o.json")])
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["o.json"]
    numbers = json.loads((tmp_path / "o.json").read_text())
    assert numbers["benchmark"] == "step" and numbers["size"] == "tiny" and numbers["dtype"] == "float32"
    assert 0 <= numbers["difference"] <= numbers["tolerance"] == 1e-4
    for name in ("bundle", "diffusers", "ratio"):
        spread = numbers[name]
        assert len(spread["all"]) == 7
        assert 0 < spread["low"] == min(spread["all"]) <= spread["median"] <= max(spread["all"]) == spread["high"]
    ratios = np.divide(numbers["diffusers"]["all"], numbers["bundle"]["all"])
    assert np.allclose(numbers["ratio"]["all"], ratios)
    assert numbers["flops"] > 0 and numbers["instructions"] > 50
    assert numbers["machine"]["threads"] == 1 and numbers["machine"]["torch"] == torch.__version__.partition("+")[0]


def numbers_of(seconds: float) -> dict[str, object]:
    spread = {"median": seconds, "low": seconds, "high": seconds, "all": [seconds] * 7}
    return {
        "machine": {"cpu": "abacus", "threads": 1},
        "size": "small",
        "preset": "bench",
        "geometry": "16x16x7",
        "dtype": "float32",
        "difference": 1e-6,
        "tolerance": 1e-4,
        "bundle": spread,
        "diffusers": spread,
        "ratio": spread,
        "flops": 4_000_000_000,
        "instructions": 500,
        "instruction_overhead_us": 2.0,
    }


def test_the_report() -> None:
    assert step_report(numbers_of(2.0)) == (
        "cpu abacus, threads 1\n"
        "size small (preset bench), 16x16x7, float32\n"
        "difference of the results 1.0e-06, at most 1.0e-04 allowed\n"
        "\n"
        "seconds per step  median  lowest  highest\n"
        "bundle             2.000   2.000    2.000\n"
        "diffusers          2.000   2.000    2.000\n"
        "ratio              2.000   2.000    2.000\n"
        "\n"
        "ratio: diffusers over bundle, of 7 pairs run one after the other\n"
        "bundle: 2 GFLOP/s in 500 instructions\n"
        "runtime's own cost: 2.00 us per instruction beyond its kernel, 0.050% of the step"
    )


def test_dtypes_are_those_that_can_be_measured() -> None:
    assert set(MODEL_DTYPES) == set(step_benchmark.TOLERANCE)


@pytest.mark.slow
def test_a_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides ran as often, every phase took time, and nothing is left of what they wrote."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    options = ["--size", "tiny", "--mesh", "1x2", "--repetitions", "2", "--json", str(tmp_path / "o.json")]
    result = CliRunner().invoke(main, ["compile", *options])
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "scratch").iterdir()) == []
    numbers = json.loads((tmp_path / "o.json").read_text())
    assert numbers["benchmark"] == "compile" and (numbers["size"], numbers["mesh"]) == ("tiny", "1x2")
    assert 1e6 < numbers["checkpoint_bytes"] < 1e8 and 1e6 < numbers["bundle_bytes"] < 1e8
    assert 1e8 < numbers["peak_anonymous_bytes"] < 4e9
    for phases, seconds in zip(numbers["phases"], numbers["compile"]["all"], strict=True):
        assert list(phases)[:5] == ["start", "trace", "choose plans", "partition", "lower"]
        assert list(phases)[5:] == ["dry run", "write weights", "finish", "end"]
        assert min(phases.values()) >= 0 and sum(phases.values()) == pytest.approx(seconds)
    assert np.allclose(np.divide(numbers["compile"]["all"], numbers["copy"]["all"]), numbers["ratio"]["all"])
    assert "compile / cp" in result.output and "no conversion" in result.output


def test_a_compile_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(MochiError, match=r"(?s)^mochi-compile ended with 3: .*error: .*none"):
        compile_benchmark.compile_once(tmp_path / "none", ["--mesh", "1x2"], tmp_path / "out")


def test_processes_beside_a_simulation(tmp_path: Path) -> None:
    """What comes first in it is that both agree: without that there would be no times."""
    arguments = ["distributed", "--size", "tiny", "--json", str(tmp_path / "o.json")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "o.json").read_text())
    assert numbers["difference"] <= numbers["tolerance"] and numbers["mesh"] == "1x2"
    assert numbers["ratio"]["all"] == [
        theirs / ours for theirs, ours in zip(numbers["simulated"]["all"], numbers["processes"]["all"], strict=True)
    ]


def test_without_diffusers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    result = CliRunner().invoke(main, ["step", "--size", "tiny"])
    assert result.exit_code == 5
    assert result.stderr == (
        "loading what is measured\n"
        "error: this compares with diffusers, and diffusers is not installed: pip install 'mochi-aot[compile,dev]'\n"
    )


@pytest.mark.parametrize("arguments", [["--size", "huge"], ["--dtype", "int8"], ["--repetitions", "3"]])
def test_choices_are_checked(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["step", *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


@pytest.mark.parametrize(
    ("place", "problem"),
    [("none/o.json", "the output folder .*none does not exist"), (".", "the output .* is a folder")],
)
def test_a_place_for_numbers_is_looked_at_before_they_are_measured(
    place: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_benchmark, "measure_step", lambda *_: pytest.fail("measured"))
    result = CliRunner().invoke(main, ["step", "--size", "tiny", "--json", str(tmp_path / place)])
    assert result.exit_code == 2 and list(tmp_path.iterdir()) == []
    assert re.match(f"error: {problem}", result.stderr.splitlines()[-1])


def test_results_that_differ_are_not_timed() -> None:
    latents = np.zeros(4, np.float32)
    right, wrong = np.array([1, 2, 3, 4], np.float32), np.array([1, 2, 3, 4.1], np.float32)
    assert check_equal(right, right, latents, "float32") == 0
    with pytest.raises(ResultsDifferError, match=r"differs from diffusers' by 0.025 relative, expected at most 0.0001"):
        check_equal(wrong, right, latents, "float32")
    assert check_equal(wrong, right, latents, "bfloat16") == pytest.approx(0.025, rel=1e-5)
    with pytest.raises(ResultsDifferError):
        check_equal(right * np.nan, right, latents, "bfloat16")


def test_both_sides_run_in_turns() -> None:
    calls: list[str] = []
    times = timing.compare(lambda: calls.append("a"), lambda: calls.append("b"), 4)
    assert "".join(calls) == "ab" * timing.WARM_UPS + "abbaabba"
    assert len(times.ours) == len(times.theirs) == len(times.ratios) == 4
    assert timing.Comparison([1.0, 2.0], [3.0, 1.0]).ratios == [3.0, 0.5]
    assert report.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0, "all": [3.0, 1.0, 2.0]}


def test_the_program_that_measures_the_runtime() -> None:
    program = additions(10)
    check_program(program, "additions")
    backend = TorchBackend(1, 1)
    outputs = backend.load_program(program).run({"x": backend.upload(np.ones(1, np.float32), SPEC)})
    assert outputs["y"][0].item() == 11
    assert np.isfinite(instruction_overhead(1))


def test_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = machine.describe_machine(3)
    assert described["threads"] == 3 and "T" in str(described["date"])
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Abacus: the second\n\nprocessor\t: 1\nmodel name\t: Other\n")
    monkeypatch.setattr(machine, "CPU_INFO", info)
    assert machine.cpu_model() == "Abacus: the second"
    info.unlink()
    assert machine.cpu_model() != ""
