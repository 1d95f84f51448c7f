"""Every command line that has --json: the result is the only thing on stdout, and it is one JSON document."""

import importlib
import json
import logging
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner

from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from tests.forked import run_forked
from tests.runtime import toy_bundle
from tests.ttnn_golden.lowered_model import CONFIG

SCRIPTS = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["scripts"]
ON_BENCH = "--config bench --mesh 1x2 --geometry 16x16x7"
# Good arguments of each, in a folder with the bundle `bundle` and the checkpoint `checkpoint`.
GOOD = {
    "mochi-bench compile": "--size tiny",
    "mochi-bench delta": "--size tiny",
    "mochi-bench distributed": "--size tiny",
    "mochi-bench gpu": "--size tiny --device cpu",
    "mochi-bench model": ON_BENCH,
    "mochi-bench quality": "--count 1 --steps 1 --mesh 1x1 --dtype float32",
    "mochi-bench serve": "--size tiny",
    "mochi-bench start": "--size tiny",
    "mochi-bench step": "--size tiny --threads 1",
    "mochi-bench traffic": ON_BENCH,
    "mochi-bench ttnn-start": "--size small",
    "mochi-checkpoint": "out --preset tiny",
    "mochi-compile": "--checkpoint checkpoint --mesh 1x1 --target torch --geometry 16x16x7 -o out",
    "mochi-doctor": "bundle",
    "mochi-inspect": "bundle --verify",
    "mochi-run": "bundle --prompt fox --steps 2 --seed 1 -o out.mp4",
    "mochi-verify": "bundle",
}
# Asked for in test_bringup.py (minutes of a machine, a bundle for ttnn), and test_diff.py and test_delta.py (two
# bundles).
ELSEWHERE = {"mochi-bringup", "mochi-bundle delta", "mochi-bundle diff"}
# What these measure, in processes of their own, takes minutes. Other tests run it; here the command around it is real.
MEASURED = {
    "compile": "measure_compile",
    "delta": "measure_delta",
    "distributed": "measure_distributed",
    "gpu": "measure_gpu",
    "serve": "measure_serve",
    "start": "measure_start",
    "ttnn-start": "measure_ttnn_start",
}
WAYS = {"alone": [], "json-log": ["--verbose", "--log-format", "json"]}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command line, those inside groups by both words."""
    for script, place in SCRIPTS.items():
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        inner = getattr(command, "commands", None)
        yield from [(script, command)] if inner is None else ((f"{script} {word}", inner[word]) for word in inner)


WITH_JSON = {
    name: command for name, command in commands() if any("--json" in parameter.opts for parameter in command.params)
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    toy_bundle.write_bundle(folder / "bundle")
    write_checkpoint(folder / "checkpoint", CONFIG, "diffusers", 0, torch.float32)
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measured_nothing(monkeypatch: pytest.MonkeyPatch, benchmark: str) -> None:
    """Put something else that says how far it is, and logs, in the place of what a benchmark measures."""
    word = benchmark.replace("-", "_")
    module = importlib.import_module(f"mochi_aot.tools.benchmarks.{word}_benchmark")
    numbers = importlib.import_module(
        f"mochi_aot.tools.benchmarks.{word}_{'report' if word == 'compile' else 'benchmark'}"
    )

    def measure(*arguments: Any) -> object:
        (progress,) = (argument for argument in arguments if isinstance(argument, Callable))  # type: ignore[arg-type]
        progress("measuring")
        logging.getLogger("mochi_aot").warning("noisy")
        return object()

    monkeypatch.setattr(module, MEASURED[benchmark], measure)
    monkeypatch.setattr(numbers, f"{word}_numbers", lambda result: {"seconds": 1.0})


def test_every_command_with_the_option_is_here() -> None:
    assert set(WITH_JSON) == set(GOOD) | ELSEWHERE


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GOOD)
def test_stdout_is_one_document(
    name: str, way: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And stderr is lines of JSON where these are asked for. `capfd` sees what libraries write past sys.stdout."""
    benchmark = name.partition("mochi-bench ")[2]
    if benchmark in MEASURED:
        measured_nothing(monkeypatch, benchmark)
    result = CliRunner().invoke(WITH_JSON[name], [*GOOD[name].split(), "--json", *WAYS[way]])
    assert result.exit_code == 0, (result.output, result.exception)
    assert isinstance(json.loads(result.stdout), dict)
    assert capfd.readouterr().out == ""
    lines = result.stderr.splitlines()
    assert lines, "the first phase is told by every one of them"
    for line in lines if way == "json-log" else ():
        assert {"time", "level", "message"} <= set(json.loads(line))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_what_ttnn_prints_is_no_part_of_it(way: str) -> None:
    """It writes what it refuses to the process's stdout; the exit code is that of a refusal, here of the head size."""
    words = ["--config", "tiny", "--mesh", "1x2", "--geometry", "64x64x7", "--json", *WAYS[way]]
    done = run_forked("verify", *words)
    assert done.returncode == 6, done.stderr
    assert json.loads(done.stdout)["accepted"] is False
