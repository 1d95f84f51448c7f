"""Writes a mock mesh's files into a private folder, and points a process at them."""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.artifacts.machines import WORMHOLE
from mochi_aot.runtime.cache import ensure_home
from mochi_aot.runtime.ttnn.fixed_path import path_for_ttnn
from mochi_aot.runtime.ttnn.mock.cluster import cluster_descriptor, mesh_graph
from mochi_aot.runtime.ttnn.mock.errors import MockMeshError, TtnnAlreadyImportedError
from mochi_aot.runtime.ttnn.mock.installation import real_sfpi, ttnn_package
from mochi_aot.runtime.ttnn.mock.machines import machine_for
from mochi_aot.runtime.ttnn.mock.root import runtime_root, write
from mochi_aot.runtime.ttnn.mock.stand_in import claim_cache

_LOGGER = logging.getLogger("mochi_aot")
# A mock mesh does not open with any of them.
_FOR_HARDWARE = ("TT_VISIBLE_DEVICES", "TT_METAL_WATCHER", "TT_METAL_SLOW_DISPATCH_MODE", "TT_METAL_SIMULATOR")


@dataclass(frozen=True)
class MockEnvironment:
    """The environment variables that make ttnn see a mock mesh, and whether its kernels will be real ones."""

    variables: dict[str, str]
    real_compiler: bool


def prepare_mock(
    mesh: tuple[int, int], folder: Path, cache: Path | None = None, arch: str = WORMHOLE
) -> MockEnvironment:
    """Write what ttnn needs to open a mock mesh of (rows, columns) chips of this architecture in this process.

    Meshes and processes may share `folder`. Built kernels go to `cache` (default: `folder`/kernels, with the stand-in
    compiler `folder`/kernels-stand-in). Links into the installed package are made where `runtime_root` says.
    Raises MockPlatformError and TtnnMissingError; CacheError; MockMeshError if the mesh cannot be mocked, or a file not
    be written; BackendError for a path that ttnn cannot use.
    """
    machine = machine_for(mesh, arch)
    package = ttnn_package()
    real = real_sfpi(package) is not None
    cache = cache or folder / ("kernels" if real else "kernels-stand-in")
    logs = folder / "logs" / f"{mesh[0]}x{mesh[1]}"
    paths = {"TT_METAL_CACHE": path_for_ttnn(cache), "TT_METAL_LOGS_PATH": path_for_ttnn(logs)}
    try:
        cluster = write(folder / f"{machine.name}.yaml", cluster_descriptor(machine))
        graph = write(folder / f"{machine.name}.textproto", mesh_graph(machine))
        paths["TT_METAL_MOCK_CLUSTER_DESC_PATH"] = path_for_ttnn(cluster)
        paths["TT_MESH_GRAPH_DESC_PATH"] = path_for_ttnn(graph)
        paths["TT_METAL_RUNTIME_ROOT"] = runtime_root()
        claim_cache(cache, real)
    except OSError as error:
        raise MockMeshError(f"cannot prepare a mock mesh in {folder}: {error}") from error
    settings = {
        "TT_METAL_LOGGER_LEVEL": "off",  # what it rejects it would tell on stdout too
        "LOGURU_LEVEL": "WARNING",
        # Mock chips need no accounts in shared memory, and one process no network.
        "TT_METAL_SHM_TRACKING_DISABLED": "1",
        "OMPI_MCA_btl": "self",
    }
    return MockEnvironment({name: str(path) for name, path in paths.items()} | settings, real)


def enter_mock(environment: MockEnvironment) -> None:
    """Set this process's environment variables. Raises TtnnAlreadyImportedError where ttnn could no longer see them.

    Those that are for hardware, with which a mock mesh would not open, are taken away, and told as a warning.
    """
    if "ttnn" in sys.modules:
        raise TtnnAlreadyImportedError("ttnn was imported before the mock mesh was entered: enter it first")
    ignored = [name for name in _FOR_HARDWARE if os.environ.pop(name, None) is not None]
    if ignored:
        _LOGGER.warning("a mocked mesh ignores %s", ", ".join(ignored))
    os.environ.update(environment.variables)
    ensure_home()
