"""Mock meshes: the real ttnn on mocked Wormhole chips, to check programs and build kernels without hardware.

`prepare_mock(mesh, folder)` writes what ttnn needs into private folders, one of which has a place of its own (root.py),
and `enter_mock(environment)` points this process at them, before ttnn is imported. From there on the mesh is opened as
a real one is, and every op runs its own checks, program construction and allocation; but nothing is computed, and what
is read back is zeros.
"""

from mochi_aot.runtime.ttnn.mock.environment import MockEnvironment, enter_mock, prepare_mock
from mochi_aot.runtime.ttnn.mock.errors import (
    MockMeshError,
    MockPlatformError,
    TtnnAlreadyImportedError,
    TtnnMissingError,
)

__all__ = [
    "MockEnvironment",
    "MockMeshError",
    "MockPlatformError",
    "TtnnAlreadyImportedError",
    "TtnnMissingError",
    "enter_mock",
    "prepare_mock",
]
