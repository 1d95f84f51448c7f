"""mochi-bench start and ttnn-start: what counts, and the arithmetic; the variants on a toy_bundle bundle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.errors import MochiError
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.reference.geometry import parse_geometry
from mochi_aot.runtime.backend import Value, Watch
from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.tools.benchmarks import start_benchmark, start_variants, ttnn_start_benchmark, ttnn_start_variants
from mochi_aot.tools.benchmarks.file_cache import cached_bytes, evict, warm
from mochi_aot.tools.benchmarks.overhead import SPEC, additions
from mochi_aot.tools.benchmarks.prepare import prepare
from mochi_aot.tools.benchmarks.sizes import SIZES, STEP_SIZES, TTNN_START_SIZES
from mochi_aot.tools.commands.bench import main
from tests.runtime import toy_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint's place with a file of random numbers, and a bundle's."""
    (tmp_path / "tiny.checkpoint").mkdir()
    (tmp_path / "tiny.checkpoint/w.safetensors").write_bytes(np.random.default_rng(0).bytes(10_000))
    toy_bundle.write_bundle(tmp_path / "tiny.bundle")
    if not can_evict(tmp_path / "tiny.checkpoint/w.safetensors"):
        pytest.skip("the temporary folder is in memory")
    return tmp_path


def can_evict(path: Path) -> bool:
    try:
        evict([path])
    except MochiError:
        return False
    return True


def numbers_of(variant: str, from_disk: int = 1000) -> dict[str, Any]:
    seconds = {"bundle": 2.0, "safetensors_mapped": 5.0, "safetensors_read": 4.0, "diffusers": 10.0}.get(variant, 1.0)
    reading = {"reader": 0.5, "limit_direct": 0.45, "limit_buffered": 0.6}.get(variant, 1.0)
    streamed = {
        "first_program": 0.5,
        "first_step": 8.0 if variant == "stream" else 10.0,
        "resident": 2.0,
        "latents": "x",
    }
    return {"seconds": seconds, "bytes": 1000, "from_disk": from_disk, "reading": reading, **streamed}


def test_there_is_a_variant_of_every_name_that_is_timed() -> None:
    timed = {*start_benchmark.COLD, *start_benchmark.WARM}
    assert {variant.__name__ for variant in start_variants.VARIANTS} == timed
    assert set(start_benchmark._chosen(start_benchmark.COLD, only_check=True)) == {"bundle", "unchecked"}


def test_ratios(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def run(variant: str, place: Path) -> dict[str, Any]:
        order.append(variant)
        assert place.name == ("tiny.checkpoint" if variant in start_benchmark.FROM_CHECKPOINT else "tiny.bundle")
        files = [*place.glob("*.safetensors"), *place.glob("weights/*")]
        cold = len(order) <= 3 * len(start_benchmark.COLD)
        assert cached_bytes(files) == (0 if cold else sum(path.stat().st_size for path in files))
        return numbers_of(variant)

    monkeypatch.setattr(start_benchmark, "_run", run)
    result = start_benchmark.measure_start(folder, "tiny", 3, lambda text: None)
    numbers = json.loads(json.dumps({"machine": {"cpu": "x"}, **start_benchmark.start_numbers(result)}))
    medians = {name: values["median"] for name, values in numbers["ratios"].items()}
    assert medians == {
        "cold: reading over the limit": pytest.approx(0.9),
        "cold: better safetensors over bundle": 2.0,
        "cold: diffusers over bundle": 5.0,
        "warm: diffusers over bundle": 5.0,
        "cold: bundle over unchecked": 2.0,
        "warm: bundle over unchecked": 2.0,
        "cold: bytes from disk over distinct bytes": 1.0,
        "stream: bytes from disk over distinct bytes": 1.0,
        "stream: first program over all resident": 0.25,
        "stream over load first: first step": 0.8,
    }
    count = len(start_benchmark.COLD)
    assert order[0] == order[2 * count - 1] and order[count] == order[1]  # who begins changes
    report = start_benchmark.start_report(numbers)
    assert "cold: diffusers over bundle" in report and "3 repetitions" in report
    assert "the same latents from both first steps" in report


def test_without_memory_for_all_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(variant: str, place: Path) -> dict[str, Any]:
        ran.append(variant)
        return numbers_of(variant)

    monkeypatch.setattr(start_benchmark, "free_memory", lambda: 1 << 10)
    monkeypatch.setattr(start_benchmark, "_run", run)
    result = start_benchmark.measure_start(folder, "tiny", 1, lambda text: None)
    assert set(ran) == set(start_benchmark.COLD) - {"diffusers", "safetensors_read", "load_first"}
    numbers = json.loads(json.dumps({"machine": {}, **start_benchmark.start_numbers(result)}))
    assert numbers["ratios"]["cold: better safetensors over bundle"]["median"] == 2.5
    assert not any("diffusers" in name or "load first" in name for name in numbers["ratios"])
    report = start_benchmark.start_report(numbers)
    assert "warm" not in report and "latents" not in report


def test_a_start_that_was_not_cold_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_benchmark, "_run", lambda variant, place: numbers_of(variant, from_disk=900))
    with pytest.raises(MochiError, match="bundle was to start cold, but 900 bytes came from the disk, 1000 were"):
        start_benchmark.measure_start(folder, "tiny", 1, lambda text: None)


def test_latents_that_differ_are_not_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_benchmark, "_run", lambda variant, place: {**numbers_of(variant), "latents": variant})
    with pytest.raises(MochiError, match="latents depend on"):
        start_benchmark.measure_start(folder, "tiny", 1, lambda text: None)


@pytest.mark.parametrize("variant", ["bundle", "reader", "limit_direct", "limit_buffered"])
def test_variants_on_a_bundle(folder: Path, variant: str) -> None:
    weights = sum(path.stat().st_size for path in (folder / "tiny.bundle/weights").iterdir())
    numbers = start_benchmark._run(variant, folder / "tiny.bundle")
    expected = weights if variant.startswith("limit") else sum(array.nbytes for array in toy_bundle.WEIGHTS.values())
    assert numbers["bytes"] == expected and numbers["seconds"] > 0


@pytest.mark.slow
def test_both_first_steps_give_the_same(folder: Path) -> None:
    streamed, after = (start_benchmark._run(variant, folder / "tiny.bundle") for variant in ("stream", "load_first"))
    assert streamed["latents"] == after["latents"]
    assert 0 < streamed["first_program"] < streamed["first_step"] <= streamed["seconds"]


def test_a_variant_that_fails(folder: Path) -> None:
    with pytest.raises(MochiError, match=r"^reader failed: .*does not exist"):
        start_benchmark._run("reader", folder / "nowhere")


def test_the_file_cache(folder: Path) -> None:
    path = folder / "tiny.checkpoint/w.safetensors"
    assert cached_bytes([path]) == 0
    warm([path])
    assert cached_bytes([path]) == 10_000
    evict([path])
    assert cached_bytes([path]) == 0


def test_ttnn_ratios() -> None:
    seconds = {"bundle": 2.0, "from_torch": 6.0, "import_torch": 3.0}
    runs = {variant: [{"seconds": value, "parts": {"imports": 0.5}}] * 7 for variant, value in seconds.items()}
    numbers = ttnn_start_benchmark.ttnn_start_numbers(ttnn_start_benchmark.TtnnStartResult("small", runs))
    assert {name: values["median"] for name, values in numbers["ratios"].items()} == {
        "from_torch over bundle": 3.0,
        "import_torch over bundle": 1.5,
    }
    report = ttnn_start_benchmark.ttnn_start_report({"machine": {}, **json.loads(json.dumps(numbers))})
    assert "from_torch: imports" in report


def test_packages_without_torch(tmp_path: Path) -> None:
    packages = ttnn_start_benchmark._without_torch(tmp_path)
    assert (packages / "numpy").is_dir() and (packages / "mochi_aot/runtime/ledger.py").is_file()
    assert not (packages / "torch").exists() and not (packages / "mochi_aot/compiler").exists()


def test_a_run_ends_with_its_first_op() -> None:
    backend = TorchBackend(1, 1)
    executable = backend.load_program(additions(3))
    watched: list[int] = []

    class Watched:
        def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> dict[str, Value]:
            def both(index: int, results: list[Value]) -> None:
                watched.append(index)
                assert watch is not None
                watch(index, results)

            return executable.run(inputs, both)

    ttnn_start_variants._until_dispatched(Watched(), {"x": backend.upload(np.ones(1, np.float32), SPEC)})
    assert watched == [0]


@pytest.mark.slow
def test_what_is_measured_is_made_once(tmp_path: Path) -> None:
    said: list[str] = []
    checkpoint, bundle = prepare(tmp_path, "tiny", "torch", "1x1", "16x16x7", said.append)
    assert Bundle.open(bundle).manifest.mesh == [1, 1] and (checkpoint / "transformer").is_dir()
    assert prepare(tmp_path, "tiny", "torch", "1x1", "16x16x7", said.append) == (checkpoint, bundle)
    assert said == ["writing a checkpoint", "compiling it"]
    with pytest.raises(MochiError, match=r"^mochi-compile failed: error: .*mesh"):
        prepare(tmp_path, "tiny", "ttnn", "one", "16x16x7", said.append)


@pytest.mark.parametrize("command", ["start", "ttnn-start"])
def test_options(command: str) -> None:
    for options in (["--size", "huge"], ["--repetitions", "3"], ["--repetitions", "0"]):
        result = CliRunner().invoke(main, [command, *options])
        assert result.exit_code == 2 and options[0] in result.stderr


def test_every_size_is_a_preset_and_a_video() -> None:
    """The tiny model does not run on chips, nor a step of the full one in an hour."""
    assert [size.preset for size in SIZES.values()] == list(PRESETS)
    for size in SIZES.values():
        for video in (size.step, size.compile, size.start, size.ttnn_start):
            if video is not None:
                assert len(parse_geometry(video).latent_size(PRESETS[size.preset])) == 3
    assert STEP_SIZES == ("tiny", "small", "middle") and TTNN_START_SIZES == ("small", "middle", "full")
