"""When programs need not run dry again: only where the bundle that is reused tells all of these very programs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mochi_aot.artifacts import Bundle, BundleWriter
from mochi_aot.artifacts.kernel_archive import pack_kernels
from mochi_aot.artifacts.schema import Geometry, Kernels, MeshSettings, Program, Weight
from mochi_aot.artifacts.versions import installed_version
from mochi_aot.compiler.lower.target import Checked
from mochi_aot.compiler.lower.ttnn.checked_before import checked_before
from tests.artifacts import samples

SETTINGS = MeshSettings("wormhole_b0", "1d", 32768, 0)
KERNELS = Kernels(0, 1, True, installed_version("ttnn") or "", "g++ 1", "/root", ["key1"])
PEAKS = {"denoise": 12345}


def program(loc: str = "dit.py:7") -> Program:
    """As chips take one; with another `loc` it is another program."""
    first, *rest = samples.PROGRAM.instructions
    return replace(samples.PROGRAM, instructions=[replace(first, loc=loc), *rest])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Bundle]:
    """Write a bundle of one program for chips, with kernels."""
    samples.write_cache(tmp_path / "cache")

    def write(kernels: Kernels | None = KERNELS, peaks: dict[str, int] = PEAKS) -> Bundle:
        with BundleWriter(tmp_path / "base") as writer:
            roles = {"denoise": writer.add_program(program())}
            file = writer.add_kernels(lambda place: pack_kernels(tmp_path / "cache", place))
            shards = [writer.add_shard(samples.LEFT), writer.add_shard(samples.RIGHT)]
            writer.add_weight(Weight("scale", "float32", [4, 3], shards))
            more = samples.BARE | {"geometries": [Geometry(16, 16, 7, roles, peaks)], "mesh_settings": SETTINGS}
            found = None if kernels is None else replace(kernels, file=file)
            writer.finish(**more, target="ttnn", dtype="bfloat16", ttnn=(found or KERNELS).ttnn, kernels=found)
        return Bundle.open(tmp_path / "base")

    return write


def asked(
    base: Bundle | None, folder: Path, loc: str = "dit.py:7", settings: MeshSettings = SETTINGS, stand_in: bool = True
) -> Checked | None:
    """What another bundle of the program would take over."""
    with BundleWriter(folder / "new", reuse=base) as writer:
        geometry = Geometry(16, 16, 7, {"denoise": writer.add_program(program(loc))})
        return checked_before(writer, [geometry], settings, stand_in)


def test_peaks_and_kernels_are_taken(write: Callable[..., Bundle], tmp_path: Path) -> None:
    checked = asked(write(), tmp_path)
    assert checked is not None and checked.mesh_settings == SETTINGS
    assert checked.geometries == [Geometry(16, 16, 7, {"denoise": 0}, PEAKS)]
    assert checked.kernels == replace(KERNELS, file=1)


def test_other_programs_settings_or_none(write: Callable[..., Bundle], tmp_path: Path) -> None:
    base = write()
    assert asked(base, tmp_path) is not None
    assert asked(None, tmp_path) is None
    assert asked(base, tmp_path, loc="dit.py:9") is None
    assert asked(base, tmp_path, settings=replace(SETTINGS, trace_bytes=1 << 26)) is None
    assert asked(base, tmp_path, stand_in=False) is None, "this host could build real kernels"


@pytest.mark.parametrize(
    "lacking",
    [{"kernels": None}, {"kernels": replace(KERNELS, ttnn="0.0.1")}, {"peaks": {}}],
    ids=["kernels", "ttnn", "peaks"],
)
def test_bundles_that_do_not_tell(write: Callable[..., Bundle], tmp_path: Path, lacking: dict[str, object]) -> None:
    assert asked(write(**lacking), tmp_path) is None


def test_kernels_that_are_damaged(write: Callable[..., Bundle], tmp_path: Path) -> None:
    base = write()
    assert base.manifest.kernels is not None
    archive = base.path / base.manifest.files[base.manifest.kernels.file].path
    data = bytearray(archive.read_bytes())
    data[700] ^= 1
    archive.write_bytes(data)
    assert asked(base, tmp_path) is None
