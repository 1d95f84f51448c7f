"""The lines of ttnn's errors that say what is wrong, and a mesh that is not there."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import ttnn

from mochi_aot.artifacts.layout import ARCHITECTURES
from mochi_aot.artifacts.schema import MeshSettings
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.mesh import open_mesh, reason

FATAL = """TT_FATAL @ /project/ttnn/cpp/ttnn/operations/matmul/matmul.cpp:212: a_shape[-1] == b_shape[-2]
info:
The width of the first tensor must be equal to the height of the second tensor.
Mismatch: width=64 height=256
backtrace:
 --- /somewhere/_ttnn.so(+0x55bb90) [0x7f424b75bb90]"""
THROW = """TT_THROW @ /project/tt_metal/impl/allocator/bank_manager.cpp:462: tt::exception
info:
Out of Memory: Not enough space to allocate 1 B DRAM buffer
backtrace:
 --- /somewhere"""
SIGNATURES = """
ttnn.add(): incompatible function arguments.

Called with:
  add(ttnn.Tensor, str)

Available signatures:
  add(input_tensor_a: ttnn.Tensor, input_tensor_b: ttnn.Tensor)"""

DRIVER = """Simulator /cache/loudbox/libttsim.so exposes 1 PCI endpoint(s), so chip 1 has none of its own.
Location: /project/tt_metal/third_party/umd/tt-umd/src/simulation/tt_sim_communicator.cpp:420
Condition: index < bdfs.size()
 1. tt::umd::TTSimCommunicator::start_sim()
 2. tt::umd::TTSimTTDevice::initialize_backend()"""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (DRIVER, "Simulator /cache/loudbox/libttsim.so exposes 1 PCI endpoint(s), so chip 1 has none of its own."),
        (
            FATAL,
            "The width of the first tensor must be equal to the height of the second tensor."
            " Mismatch: width=64 height=256 (a_shape[-1] == b_shape[-2])",
        ),
        (THROW, "Out of Memory: Not enough space to allocate 1 B DRAM buffer (tt::exception)"),
        (SIGNATURES, "ttnn.add(): incompatible function arguments. Called with: add(ttnn.Tensor, str)"),
        ("Unable to load the tensor", "Unable to load the tensor"),
        ("", "RuntimeError"),
    ],
)
def test_the_reason_of_an_error(message: str, expected: str) -> None:
    assert reason(RuntimeError(message)) == expected


def test_chips_of_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle for Wormhole where the machine has Blackhole chips, and the other way round: the mesh is closed."""
    closed = []
    monkeypatch.setattr(ttnn, "set_fabric_config", lambda fabric: None)
    monkeypatch.setattr(ttnn, "close_mesh_device", closed.append)
    for arch, there in (("wormhole_b0", ttnn.Arch.BLACKHOLE), ("blackhole", ttnn.Arch.WORMHOLE_B0)):
        mesh = SimpleNamespace(id=lambda: -1, arch=lambda there=there: there)
        monkeypatch.setattr(ttnn, "open_mesh_device", lambda shape, mesh=mesh, **settings: mesh)
        seen = there.name.lower()
        assert open_mesh(1, 2, MeshSettings(seen, "1d", 0, 0)) is mesh
        with pytest.raises(
            BackendError, match=f"^the bundle was compiled for {arch} chips, and these are {seen} chips$"
        ):
            open_mesh(1, 2, MeshSettings(arch, "1d", 0, 0))
        assert closed.pop() is mesh and not closed


def test_architectures_have_ttnns_names() -> None:
    assert {*ARCHITECTURES} <= {name.lower() for name in vars(ttnn.Arch)}


def test_chips_that_are_not_there() -> None:
    """Without hardware, and without a mock in its place."""
    script = (
        "from mochi_aot.runtime.errors import BackendError\n"
        "from mochi_aot.artifacts.schema import MeshSettings\n"
        "from mochi_aot.runtime.ttnn.mesh import open_mesh\n"
        "settings = MeshSettings('wormhole_b0', '1d', 32768, 0)\n"
        "try:\n    open_mesh(1, 2, settings)\nexcept BackendError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "cannot open a mesh of 1x2 chips: No chips detected in the cluster" in done.stdout
