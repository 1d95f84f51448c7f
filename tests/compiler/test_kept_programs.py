"""Programs are kept from one compile to the next: with them a bundle is the same, and nothing is traced."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

import mochi_aot
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.compiler import compile as compiling
from mochi_aot.compiler import kept_programs
from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.kept_programs import KeptPrograms, NotedSource
from mochi_aot.compiler.lower.torch import lower
from mochi_aot.compiler.reference.geometry import parse_geometry
from tests.compiler.lora import made

GEOMETRY = "16x32x1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a bundle of it, and a cache that has what this compile kept."""
    folder = tmp_path_factory.mktemp("kept")
    write_checkpoint(folder / "tiny", TINY, "diffusers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOCHI_CACHE", str(folder / "cache"))
        compile(folder / "tiny", folder / "base")
    return folder


@pytest.fixture(autouse=True)
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cache, for a test alone."""
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(folder / "cache", tmp_path / "cache")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The geometries that were traced since."""
    sizes: list[str] = []
    build: Callable[..., object] = compiling.build_programs

    def noted(config: object, geometry: object, *rest: object) -> object:
        sizes.append(str(geometry))
        return build(config, geometry, *rest)

    monkeypatch.setattr(compiling, "build_programs", noted)
    return sizes


def compile(checkpoint: Path, output: Path, mesh: str = "1x2", **options: object) -> Bundle:
    mochi_aot.compile(checkpoint, output=output, mesh=mesh, target="torch", geometries=GEOMETRY, **options)
    return Bundle.open(output)


def files(bundle: Bundle) -> dict[str, bytes]:
    return {str(path.relative_to(bundle.path)): path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()}


def job(mesh: tuple[int, int] = (1, 2)) -> Job:
    return Job(mesh, (parse_geometry(GEOMETRY),))


def kept(cache: Path, job: Job) -> KeptPrograms:
    return KeptPrograms(cache / "programs", TINY, job)


def test_a_relink_traces_nothing(folder: Path, tmp_path: Path, cache: Path, traced: list[str]) -> None:
    """The bundle is that of a compile without anything kept, byte by byte."""
    lora = made.diffusers_lora(folder / "tiny", tmp_path)
    style = compile(folder / "tiny", tmp_path / "style", loras=lora, reuse=folder / "base")
    assert not traced and style.id != Bundle.open(folder / "base").id
    shutil.rmtree(cache)
    again = compile(folder / "tiny", tmp_path / "again", loras=lora, reuse=folder / "base")
    assert traced == [GEOMETRY] and files(again) == files(style)


def test_constants_that_the_bundle_lacks(folder: Path, tmp_path: Path, traced: list[str]) -> None:
    """Programs are kept for this mesh, but the bundle that is reused is for another; nor without one."""
    right = compile(folder / "tiny", tmp_path / "right", "2x1")
    assert files(compile(folder / "tiny", tmp_path / "made", "2x1", reuse=folder / "base")) == files(right)
    assert files(compile(folder / "tiny", tmp_path / "again", "2x1")) == files(right)
    assert traced == 3 * [GEOMETRY]


def test_numbers_that_are_in_programs(folder: Path, tmp_path: Path, cache: Path, traced: list[str]) -> None:
    """Where RoPE's frequencies are others, so are the constants."""
    changed = shutil.copytree(folder / "tiny", tmp_path / "changed")
    (place,) = (path for path in changed.rglob("*.safetensors") if "pos_frequencies" in load_file(path))
    tensors = load_file(place)
    save_file(tensors | {"pos_frequencies": 1.5 * tensors["pos_frequencies"]}, place)
    made = compile(changed, tmp_path / "made", reuse=folder / "base")
    shutil.rmtree(cache)
    assert traced == [GEOMETRY] and files(made) == files(compile(changed, tmp_path / "right"))


def test_what_is_found_is_what_was_made(folder: Path, cache: Path) -> None:
    """But for the constants' numbers; none are in the file either."""
    found = kept(cache, job()).find(open_checkpoint(folder / "tiny"))
    assert found is not None
    (programs,) = found.values()
    base = Bundle.open(folder / "base")
    (geometry,) = base.manifest.geometries
    assert set(programs) == set(geometry.programs)
    for role, program in programs.items():
        assert lower(program.program, program.plan, program.cost) == base.program(role, geometry)
    (entry,) = (cache / "programs").iterdir()
    assert entry.stat().st_size < 1_000_000


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data.replace(b"sp", b"tp", 1), lambda _: b""])
def test_what_is_damaged_is_not_found(folder: Path, cache: Path, damage: Callable[[bytes], bytes]) -> None:
    source = open_checkpoint(folder / "tiny")
    assert kept(cache, job()).find(source) is not None
    (entry,) = (cache / "programs").iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    assert kept(cache, job()).find(source) is None


def test_other_jobs_and_other_code(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_checkpoint(folder / "tiny")
    assert kept(cache, job((2, 1))).find(source) is None
    assert kept(cache, replace(job(), dtype="float32")).find(source) is None
    monkeypatch.setattr(kept_programs, "_code_digest", lambda: "other")
    assert kept(cache, job()).find(source) is None


def test_the_oldest_go(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That used last stays."""
    monkeypatch.setattr(kept_programs, "MOST_ENTRIES", 2)
    source = open_checkpoint(folder / "tiny")
    found = kept(cache, job()).find(source)
    assert found is not None
    kept(cache, job((2, 1))).keep(found, NotedSource(source))
    assert kept(cache, job()).find(source) is not None
    kept(cache, job((2, 2))).keep(found, NotedSource(source))
    left = [kept(cache, job(mesh)).find(source) is not None for mesh in ((1, 2), (2, 1), (2, 2))]
    assert left == [True, False, True]


def test_where_nothing_can_be_kept(folder: Path, cache: Path) -> None:
    source = open_checkpoint(folder / "tiny")
    found = kept(cache, job()).find(source)
    shutil.rmtree(cache / "programs")
    (cache / "programs").write_text("a file")
    assert found is not None
    kept(cache, job()).keep(found, NotedSource(source))
    assert kept(cache, job()).find(source) is None
