"""What the runtime sets up for a simulated machine, without one; and when it refuses."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.artifacts.schema import MeshSettings
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn import simulator
from mochi_aot.runtime.ttnn.mock import TtnnAlreadyImportedError
from mochi_aot.runtime.ttnn.mock.cluster import cluster_descriptor
from mochi_aot.runtime.ttnn.mock.installation import COMPILER, ttnn_package
from mochi_aot.runtime.ttnn.simulated_machines import simulated_machine
from mochi_aot.runtime.ttnn.simulator import enter_simulator, simulator_variables
from mochi_aot.runtime.ttnn.trace import can_trace

SETTINGS = MeshSettings("wormhole_b0", "1d", 32768, 0)
BLACKHOLE = MeshSettings("blackhole", "1d", 32768, 0)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_number: None) -> None:
    for name in [name for name in os.environ if name.startswith("TT")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "sim/libttsim.so"
    path.parent.mkdir()
    path.write_bytes(b"a library")
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime root of the user's own, with a compiler."""
    compiler = tmp_path / "root/runtime/sfpi" / COMPILER
    compiler.parent.mkdir(parents=True)
    compiler.write_text("")
    monkeypatch.setenv("TT_METAL_RUNTIME_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def bundle(rows: int = 1, columns: int = 2, settings: MeshSettings = SETTINGS) -> Any:
    return SimpleNamespace(path="b", manifest=SimpleNamespace(mesh=[rows, columns], mesh_settings=settings))


def test_the_environment_and_the_files_beside_the_library(library: Path, root: Path, tmp_path: Path) -> None:
    own = tmp_path / f"cache/simulator-{version('ttnn')}"
    variables = simulator_variables((1, 2), SETTINGS, library)
    assert variables == {
        "TT_METAL_SIMULATOR": f"{own}/n300/libttsim.so",
        "TT_METAL_RUNTIME_ROOT": str(root),
        "TT_METAL_CACHE": f"/proc/self/fd/1000/simulator-{version('ttnn')}/kernels/n300",
        "TT_METAL_LOGS_PATH": f"/proc/self/fd/1000/simulator-{version('ttnn')}/logs",
        "TT_METAL_MOCK_CLUSTER_DESC_PATH": f"{own}/n300/cluster_descriptor.yaml",
        "TT_MESH_GRAPH_DESC_PATH": f"{own}/n300/mesh_graph.textproto",
        "TT_METAL_SLOW_DISPATCH_MODE": "1",
        "TTSIM_ETH_FW_ROUTING": "0",
        "TT_METAL_FABRIC_ROUTER_SYNC_TIMEOUT_MS": "500000",
        "TT_METAL_OPERATION_TIMEOUT_SECONDS": "100000",
        "TT_METAL_SHM_TRACKING_DISABLED": "1",
        "OMPI_MCA_btl": "self",
    }
    assert (own / "n300/libttsim.so").resolve() == library
    soc = ttnn_package() / "tt_metal/soc_descriptors/wormhole_b0_80_arch.yaml"
    assert (own / "n300/soc_descriptor.yaml").read_text() == soc.read_text()
    assert (own / "n300/cluster_descriptor.yaml").read_text() == cluster_descriptor(simulated_machine((1, 2), None))
    assert "dims: [1, 2]" in (own / "n300/mesh_graph.textproto").read_text()
    assert list(library.parent.iterdir()) == [library]


def test_another_library_takes_the_place_of_the_first(library: Path, root: Path) -> None:
    simulator_variables((1, 2), SETTINGS, library)
    other = library.with_name("other.so")
    other.write_bytes(b"")
    library.unlink()
    renamed = other.rename(library.parent / "libttsim.so")
    linked = Path(simulator_variables((1, 2), SETTINGS, renamed)["TT_METAL_SIMULATOR"])
    assert linked.read_bytes() == b""


def test_one_chip_needs_no_description_of_links(library: Path, root: Path) -> None:
    variables = simulator_variables((1, 1), SETTINGS, library)
    assert not {"TT_METAL_MOCK_CLUSTER_DESC_PATH", "TT_MESH_GRAPH_DESC_PATH"} & variables.keys()


def test_machines_are_those_of_the_simulator() -> None:
    """Its own numbers: an n300's chips share links 8 and 9 to 0 and 1; a LoudBox's hosts are chips 0 to 3."""
    n300, loudbox = simulated_machine((2, 1), SETTINGS), simulated_machine((2, 4), SETTINGS)
    assert n300.links == [((0, 8), (1, 0)), ((0, 9), (1, 1))] and n300.host_chips == [0]
    assert len(loudbox.links) == 20 and loudbox.host_chips == [0, 1, 2, 3]
    # Neighbours in the simulator's 4 x 2 places are what the links join.
    for (a, _), (b, _) in loudbox.links:
        (x, y), (u, v) = loudbox.places[a], loudbox.places[b]
        assert abs(x - u) + abs(y - v) == 1
    assert n300.harvested == loudbox.harvested == 3


@pytest.mark.parametrize("mesh", [(4, 8), (3, 3), (1, 9)])
def test_meshes_that_no_simulated_machine_has(mesh: tuple[int, int]) -> None:
    with pytest.raises(BackendError, match=f"^a mesh of {mesh[0]}x{mesh[1]} chips is not simulated; compile for 1x1"):
        simulated_machine(mesh, SETTINGS)


def test_a_blackhole_chip_has_a_description_and_settings_of_its_own(library: Path, root: Path) -> None:
    """Its library ends the process where it finds Wormhole's setting."""
    variables = simulator_variables((1, 1), BLACKHOLE, library)
    assert "TTSIM_ETH_FW_ROUTING" not in variables and "TT_METAL_MOCK_CLUSTER_DESC_PATH" not in variables
    soc = ttnn_package() / "tt_metal/soc_descriptors/blackhole_140_arch.yaml"
    assert (Path(variables["TT_METAL_SIMULATOR"]).parent / "soc_descriptor.yaml").read_text() == soc.read_text()
    assert "TTSIM_ETH_FW_ROUTING" in simulator_variables((1, 1), SETTINGS, library)


@pytest.mark.parametrize("mesh", [(1, 2), (2, 4)])
def test_several_blackhole_chips(mesh: tuple[int, int]) -> None:
    with pytest.raises(BackendError, match=f"^a mesh of {mesh[0]}x{mesh[1]} Blackhole chips is not simulated; compile"):
        simulated_machine(mesh, BLACKHOLE)


def refusal() -> str:
    with pytest.raises(BackendError) as caught:
        enter_simulator(bundle())
    assert caught.value.exit_code == ExitCode.DEVICE
    return str(caught.value)


def test_without_a_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert refusal() == "no simulator: give its library by --simulator FILE or TT_METAL_SIMULATOR"
    monkeypatch.setenv("TT_METAL_SIMULATOR", str(tmp_path / "none.so"))
    assert refusal() == f"no simulator at {tmp_path}/none.so: expected the library libttsim.so of tenstorrent/ttsim"


def test_without_a_kernel_compiler(monkeypatch: pytest.MonkeyPatch, library: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("TT_METAL_SIMULATOR", str(library))
    monkeypatch.setattr(simulator, "real_sfpi", lambda package: None)
    assert refusal() == (
        "the simulator runs real kernels, and their compiler SFPI is not installed: install it in /opt/tenstorrent/sfpi"
    )
    monkeypatch.setenv("TT_METAL_RUNTIME_ROOT", str(tmp_path))
    expected = f"TT_METAL_RUNTIME_ROOT={tmp_path} has no runtime/sfpi/compiler/bin/riscv-tt-elf-g++"
    assert refusal() == f"the simulator runs real kernels, and {expected}"


def test_kernels_of_the_stand_in_are_not_simulated(
    monkeypatch: pytest.MonkeyPatch, library: Path, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels/STAND-IN").touch()
    monkeypatch.setenv("TT_METAL_SIMULATOR", str(library))
    monkeypatch.setenv("TT_METAL_CACHE", str(tmp_path / "kernels"))
    assert refusal() == f"{tmp_path}/kernels holds a stand-in's kernels, not a real compiler's: give another folder"


def test_what_is_for_hardware_is_ignored_and_told(
    monkeypatch: pytest.MonkeyPatch, library: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TT_METAL_SIMULATOR", str(library))
    monkeypatch.setenv("TT_VISIBLE_DEVICES", "0")
    assert can_trace()
    before = dict(os.environ)
    try:
        enter_simulator(bundle(1, 1))
        assert "TT_VISIBLE_DEVICES" not in os.environ and os.environ["TT_METAL_SLOW_DISPATCH_MODE"] == "1"
        assert not can_trace()
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert caplog.messages == ["a simulated mesh ignores TT_VISIBLE_DEVICES"]


@pytest.mark.parametrize(
    ("mesh", "settings", "configuration"),
    [((1, 1), SETTINGS, "wh"), ((2, 1), SETTINGS, "wh_x2"), ((2, 4), SETTINGS, "wh_x8"), ((1, 1), BLACKHOLE, "bh")],
)
def test_which_library_it_must_be_is_told(
    mesh: tuple[int, int],
    settings: MeshSettings,
    configuration: str,
    monkeypatch: pytest.MonkeyPatch,
    library: Path,
    root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TT_METAL_SIMULATOR", str(library))
    before = dict(os.environ)
    try:
        with caplog.at_level("INFO", "mochi_aot"):
            enter_simulator(bundle(*mesh, settings))
    finally:
        os.environ.clear()
        os.environ.update(before)
    rows, columns = mesh
    assert caplog.messages == [f"a simulated mesh of {rows}x{columns}: {library} must be ttsim's {configuration}"]


ENDING = """
import atexit, ctypes, sys
from mochi_aot.runtime.ttnn.simulator import end_with_own_exit_code
library = ctypes.CDLL(None)
library.on_exit(ctypes.cast(library.abort, ctypes.c_void_p), None)  # as a library's own cleanup that fails
end_with_own_exit_code()
atexit.register(print, "closed")
print("made")
sys.exit(6)
"""


def test_the_end_of_the_process_is_its_own() -> None:
    """What Python does at the end is done, and printed; what a library does after that is not."""
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("made\nclosed\n", "", 6)


def test_after_ttnn_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ttnn", ModuleType("ttnn"))
    with pytest.raises(TtnnAlreadyImportedError, match="enter it first"):
        enter_simulator(bundle())
