"""The lines of ttnn's errors that say what is wrong, and a mesh that is not there."""

import subprocess
import sys

import pytest

from mochi_aot.runtime.ttnn.mesh import reason

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


@pytest.mark.parametrize(
    ("message", "expected"),
    [
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
