"""What is written into the private folder, and when a mock mesh is refused."""

import importlib.util
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.mock import (
    MockEnvironment,
    MockMeshError,
    MockPlatformError,
    TtnnAlreadyImportedError,
    TtnnMissingError,
    enter_mock,
    installation,
    prepare_mock,
)
from mochi_aot.runtime.ttnn.mock.installation import ttnn_package
from mochi_aot.runtime.ttnn.mock.stand_in import claim_cache, holds_stand_ins

ROOT = f"cache/ttnn-{version('ttnn')}-stand-in"
STAND_IN = Path(ROOT, "runtime/sfpi/compiler/bin/riscv-tt-elf-g++")


@pytest.fixture(autouse=True)
def private_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_number: None) -> None:
    """What all users share lies in a folder of the test."""
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_sfpi(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on most machines: whatever is installed here, no real compiler is found."""
    monkeypatch.setattr(installation, "_SYSTEM_SFPI", Path("/nonexistent/sfpi"))


@pytest.mark.usefixtures("no_sfpi")
def test_a_folder_and_the_environment_that_points_at_it(tmp_path: Path) -> None:
    environment = prepare_mock((2, 4), tmp_path)
    package = ttnn_package()
    assert not environment.real_compiler
    assert environment.variables == {
        "TT_METAL_MOCK_CLUSTER_DESC_PATH": f"{tmp_path}/loudbox.yaml",
        "TT_MESH_GRAPH_DESC_PATH": f"{tmp_path}/loudbox.textproto",
        "TT_METAL_RUNTIME_ROOT": f"/proc/self/fd/1000/ttnn-{version('ttnn')}-stand-in",
        "TT_METAL_CACHE": f"{tmp_path}/kernels-stand-in",
        "TT_METAL_LOGS_PATH": f"{tmp_path}/logs/2x4",
        "TT_METAL_LOGGER_LEVEL": "off",
        "LOGURU_LEVEL": "WARNING",
        "TT_METAL_SHM_TRACKING_DISABLED": "1",
        "OMPI_MCA_btl": "self",
    }
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()}
    links = {Path(ROOT, part) for part in ("tt_metal", "ttnn", "runtime/hw")}
    written = {Path("loudbox.yaml"), Path("loudbox.textproto"), STAND_IN, Path("kernels-stand-in/STAND-IN")}
    assert files == links | written
    assert all((tmp_path / path).readlink() == package / path.relative_to(ROOT) for path in links)
    assert "stand-in" in (tmp_path / STAND_IN).read_text()
    assert "stand-in" in (tmp_path / "kernels-stand-in/STAND-IN").read_text()


@pytest.mark.usefixtures("no_sfpi")
def test_preparing_again_changes_nothing_and_repairs_what_was_changed(tmp_path: Path) -> None:
    environment = prepare_mock((4, 8), tmp_path)
    cluster, compiler = tmp_path / "galaxy.yaml", tmp_path / STAND_IN
    text, before = cluster.read_text(), cluster.stat()
    compiler.write_text("broken")
    (tmp_path / ROOT / "ttnn").unlink()
    (tmp_path / ROOT / "ttnn").symlink_to("/nonexistent/of/another/environment")
    assert prepare_mock((4, 8), tmp_path) == environment
    assert (cluster.read_text(), cluster.stat().st_ino) == (text, before.st_ino)
    assert os.access(compiler, os.X_OK) and "stand-in" in compiler.read_text()
    assert (tmp_path / ROOT / "ttnn").readlink() == ttnn_package() / "ttnn"


def test_a_real_compiler_is_taken_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "sfpi/compiler/bin/riscv-tt-elf-g++"
    real.parent.mkdir(parents=True)
    real.touch()
    monkeypatch.setattr(installation, "_SYSTEM_SFPI", tmp_path / "sfpi")
    environment = prepare_mock((1, 2), tmp_path / "mock")
    assert environment.real_compiler
    links = tmp_path / f"cache/ttnn-{version('ttnn')}"
    assert environment.variables["TT_METAL_RUNTIME_ROOT"] == f"/proc/self/fd/1000/{links.name}"
    assert (links / "runtime/sfpi").readlink() == tmp_path / "sfpi"
    assert (links / "tt_metal").readlink() == ttnn_package() / "tt_metal"
    assert environment.variables["TT_METAL_CACHE"] == f"{tmp_path}/mock/kernels"
    assert not holds_stand_ins(tmp_path / "mock/kernels")


def test_kernels_of_the_two_compilers_never_share_a_folder(tmp_path: Path) -> None:
    claim_cache(tmp_path / "a", real=False)
    (tmp_path / "a/kernel.elf").touch()
    claim_cache(tmp_path / "a", real=False)
    with pytest.raises(MockMeshError, match="holds a stand-in's kernels"):
        claim_cache(tmp_path / "a", real=True)
    claim_cache(tmp_path / "b", real=True)
    (tmp_path / "b/kernel.elf").touch()
    claim_cache(tmp_path / "b", real=True)
    with pytest.raises(
        MockMeshError, match="holds files that the stand-in compiler did not make: give an empty folder"
    ):
        claim_cache(tmp_path / "b", real=False)


@pytest.mark.parametrize("attempt", range(5))
def test_many_processes_may_claim_a_folder_at_once(attempt: int, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: claim_cache(tmp_path / "cache", real=False), range(16)))
    assert holds_stand_ins(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]


def test_a_path_that_ttnn_cannot_put_into_a_command(tmp_path: Path) -> None:
    for folder, cache in ((tmp_path / "my files", None), (tmp_path, tmp_path / "a;b")):
        with pytest.raises(BackendError, match="give a path without spaces or special characters"):
            prepare_mock((1, 1), folder, cache)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MockMeshError, match=f"cannot prepare a mock mesh in {tmp_path}/file: "):
        prepare_mock((1, 1), tmp_path / "file")


def test_another_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(MockPlatformError, match="ttnn runs on Linux x86_64 only, and this is Darwin arm64"):
        prepare_mock((1, 1), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_ttnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TtnnMissingError, match="pip install mochi-aot"):
        prepare_mock((1, 1), tmp_path)


def test_entering_sets_the_environment_unless_ttnn_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = MockEnvironment({"MOCHI_TEST_VARIABLE": "1"}, real_compiler=False)
    monkeypatch.setenv("MOCHI_TEST_VARIABLE", "0")
    monkeypatch.delitem(sys.modules, "ttnn", raising=False)
    enter_mock(environment)
    assert os.environ["MOCHI_TEST_VARIABLE"] == "1"
    monkeypatch.setitem(sys.modules, "ttnn", ModuleType("ttnn"))
    with pytest.raises(TtnnAlreadyImportedError, match="enter it first"):
        enter_mock(environment)


def test_every_refusal_is_an_error_of_the_user() -> None:
    for error in (MockMeshError, MockPlatformError, TtnnAlreadyImportedError, TtnnMissingError):
        assert issubclass(error, MochiError)


def test_a_process_without_a_home_and_with_variables_for_hardware(tmp_path: Path) -> None:
    """ttnn's import alone ends in a segmentation fault without HOME; with the others a mock mesh does not open."""
    code = (
        "import sys; from pathlib import Path; from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock; "
        "enter_mock(prepare_mock((1, 2), Path(sys.argv[1]))); import ttnn; "
        "mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 2)); print('opened', *mesh.shape); ttnn.close_mesh_device(mesh)"
    )
    hardware = {"TT_VISIBLE_DEVICES": "0", "TT_METAL_SLOW_DISPATCH_MODE": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "HOME"} | hardware
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "opened 1 2" in done.stdout
    assert "a mocked mesh ignores TT_VISIBLE_DEVICES, TT_METAL_SLOW_DISPATCH_MODE\n" in done.stderr
