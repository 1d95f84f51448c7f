"""Which kernels ttnn is pointed at: a bundle's own where its key fits, and a stand-in's never on chips."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from mochi_aot.artifacts import Bundle, BundleError
from mochi_aot.runtime.errors import CacheError
from mochi_aot.runtime.ttnn.environment import enter_chips, enter_mock_mesh
from mochi_aot.runtime.ttnn.mock import installation
from mochi_aot.runtime.ttnn.mock.installation import COMPILER
from mochi_aot.runtime.ttnn.mock.stand_in import holds_stand_ins
from tests.artifacts import samples

VERSION = version("ttnn")
FIXED = Path("/proc/self/fd/1000")  # the cache folder, as ttnn knows it
PINNED = "TT_METAL_PINNED_MEMORY_CACHE_LIMIT_BYTES"
KERNEL = "key1/kernels/reader/123/brisc/brisc.elf"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not imported ttnn, on a machine without a real compiler."""
    monkeypatch.setattr(os, "environ", {**os.environ, "MOCHI_CACHE": str(tmp_path / "cache")})
    monkeypatch.delitem(sys.modules, "ttnn", raising=False)
    monkeypatch.setattr(installation, "_SYSTEM_SFPI", tmp_path / "sfpi")
    for name in ("TT_METAL_CACHE", "TT_METAL_RUNTIME_ROOT", "TT_METAL_LOGS_PATH", PINNED):
        os.environ.pop(name, None)


def install_sfpi(tmp_path: Path) -> None:
    (tmp_path / "sfpi" / COMPILER).parent.mkdir(parents=True)
    (tmp_path / "sfpi" / COMPILER).touch()


def write(tmp_path: Path, stand_in: bool, ttnn: str = VERSION, root: str | None = None) -> Bundle:
    """A bundle with one kernel, which was built as it would be on this machine unless it is said otherwise."""
    samples.write_cache(tmp_path / "built")
    place = root or f"{FIXED}/ttnn-{VERSION}" + ("-stand-in" if stand_in else "")
    kernels = replace(samples.KERNELS, stand_in=stand_in, ttnn=ttnn, root=place)
    return Bundle.open(samples.write_kernel_bundle(tmp_path / "b", tmp_path / "built", kernels))


def copy_of(bundle: Bundle, tmp_path: Path) -> Path:
    return tmp_path / "cache/kernels" / bundle.manifest.files[0].blake3


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("TT_")}


def test_a_mocked_mesh_gets_a_stand_ins_kernels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = write(tmp_path, stand_in=True)
    enter_mock_mesh(bundle)
    assert Path(variables()["TT_METAL_CACHE"]) == FIXED / copy_of(bundle, tmp_path).relative_to(tmp_path / "cache")
    assert variables()["TT_METAL_RUNTIME_ROOT"] == bundle.manifest.kernels.root  # type: ignore[union-attr]
    assert (copy_of(bundle, tmp_path) / KERNEL).read_bytes() == b"elf"
    assert holds_stand_ins(copy_of(bundle, tmp_path))
    assert caplog.messages == []


@pytest.mark.parametrize("with_sfpi", [False, True])
def test_chips_do_not(with_sfpi: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if with_sfpi:
        install_sfpi(tmp_path)
    assert enter_chips(write(tmp_path, stand_in=True)) is None
    assert variables()["TT_METAL_CACHE"] == f"{FIXED}/chips-{VERSION}/kernels"
    assert "TT_METAL_RUNTIME_ROOT" not in variables() and not (tmp_path / "cache/kernels").exists()
    assert caplog.messages == [
        "the bundle's kernels are not used: they were made by the stand-in compiler, and do nothing;"
        " ttnn builds them as needed"
    ]


def test_chips_get_real_kernels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    install_sfpi(tmp_path)
    bundle = write(tmp_path, stand_in=False)
    assert enter_chips(bundle) is not None
    assert Path(variables()["TT_METAL_CACHE"]) == FIXED / copy_of(bundle, tmp_path).relative_to(tmp_path / "cache")
    assert variables()["TT_METAL_RUNTIME_ROOT"] == f"{FIXED}/ttnn-{VERSION}"
    assert "TT_METAL_MOCK_CLUSTER_DESC_PATH" not in variables()
    assert (copy_of(bundle, tmp_path) / KERNEL).read_bytes() == b"elf"
    assert not holds_stand_ins(copy_of(bundle, tmp_path))
    assert caplog.messages == []


def test_chips_whose_user_has_chosen_a_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    install_sfpi(tmp_path)
    os.environ["TT_METAL_CACHE"] = "/mine"
    assert enter_chips(write(tmp_path, stand_in=False)) is None
    assert variables()["TT_METAL_CACHE"] == "/mine" and "TT_METAL_RUNTIME_ROOT" not in variables()
    assert caplog.messages[0].startswith("the bundle's kernels are not used: TT_METAL_CACHE set in")


@pytest.mark.parametrize(("chosen", "used"), [(None, "0"), ("4096", "4096")])
def test_files_of_weights_are_not_pinned(chosen: str | None, used: str, tmp_path: Path) -> None:
    if chosen is not None:
        os.environ[PINNED] = chosen
    enter_chips(write(tmp_path, stand_in=True))
    assert variables()[PINNED] == used


def test_a_cache_folder_with_spaces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    install_sfpi(tmp_path)
    os.environ["MOCHI_CACHE"] = str(tmp_path / "my caches")
    assert enter_chips(write(tmp_path, stand_in=False)) is not None
    assert all(" " not in value for value in variables().values())
    assert (Path(variables()["TT_METAL_CACHE"]) / KERNEL).samefile(
        next((tmp_path / "my caches/kernels").iterdir()) / KERNEL
    )
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("differs", "reason"),
    [
        ({"stand_in": False}, "they were made by a real compiler"),
        ({"stand_in": True, "ttnn": "0.1"}, f"they are for ttnn 0.1, and this is {VERSION}"),
        ({"stand_in": True, "root": "/other"}, "they were built with ttnn at /other, and here it is at "),
    ],
)
def test_kernels_of_another_key_are_left_alone(
    differs: dict, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    enter_mock_mesh(write(tmp_path, **differs))
    assert variables()["TT_METAL_CACHE"] == f"{FIXED}/mock-{VERSION}/kernels-stand-in"
    [message] = caplog.messages
    assert message.startswith(f"the bundle's kernels are not used: {reason}")


def test_a_stand_in_does_not_fill_a_real_compilers_copy_nor_the_other_way_round(tmp_path: Path) -> None:
    install_sfpi(tmp_path)
    enter_mock_mesh(write(tmp_path, stand_in=True))
    assert variables()["TT_METAL_CACHE"] == f"{FIXED}/mock-{VERSION}/kernels"
    assert not holds_stand_ins(Path(variables()["TT_METAL_CACHE"]))


def test_a_damaged_archive(tmp_path: Path) -> None:
    bundle = write(tmp_path, stand_in=True)
    archive = bundle.path / bundle.manifest.files[0].path
    data = bytearray(archive.read_bytes())
    data[600] ^= 1
    archive.write_bytes(data)
    with pytest.raises(BundleError, match=r"\.tar: expected BLAKE3 .*; copy or compile the bundle again"):
        enter_mock_mesh(bundle)
    assert not copy_of(bundle, tmp_path).exists()
    assert list((tmp_path / "cache").glob("**/*.elf")) == []


def test_many_at_once_unpack_one_copy(tmp_path: Path) -> None:
    bundle = write(tmp_path, stand_in=True)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: enter_mock_mesh(bundle), range(16)))
    place = copy_of(bundle, tmp_path)
    assert {path.name for path in place.parent.iterdir()} == {place.name, f"{place.name}.used"}
    assert (copy_of(bundle, tmp_path) / KERNEL).read_bytes() == b"elf"


def test_a_copy_is_written_to_and_kept(tmp_path: Path) -> None:
    bundle = write(tmp_path, stand_in=True)
    enter_mock_mesh(bundle)
    (copy_of(bundle, tmp_path) / "key1/kernels/more").mkdir()
    enter_mock_mesh(bundle)
    assert (copy_of(bundle, tmp_path) / "key1/kernels/more").is_dir()


def test_a_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    bundle = write(tmp_path, stand_in=True)
    (tmp_path / "cache").touch()
    for enter in (enter_mock_mesh, enter_chips):
        with pytest.raises(CacheError, match=f"cannot keep files in {tmp_path}/cache: File exists; set MOCHI_CACHE to"):
            enter(bundle)
