"""Tenstorrent's functional simulator, ttsim, in the place of chips: real kernels and real numbers, without hardware.

The user has the simulator's library for a machine, and SFPI where ttnn looks for it. All else that ttnn needs is made
in the cache folder: https://github.com/tenstorrent/ttsim says what must lie beside the library.
"""

import ctypes
import logging
import os
import sys
from pathlib import Path

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.machines import BLACKHOLE, WORMHOLE
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import MeshSettings
from mochi_aot.runtime.cache import cache_folder, ensure_home
from mochi_aot.runtime.errors import BackendError, CacheError
from mochi_aot.runtime.ttnn.fixed_path import path_for_ttnn
from mochi_aot.runtime.ttnn.kernel_cache import KernelCache
from mochi_aot.runtime.ttnn.mock.cluster import Cluster, cluster_descriptor, mesh_graph
from mochi_aot.runtime.ttnn.mock.errors import MockMeshError, TtnnAlreadyImportedError
from mochi_aot.runtime.ttnn.mock.installation import COMPILER, real_sfpi, ttnn_package, ttnn_version
from mochi_aot.runtime.ttnn.mock.root import runtime_root, write
from mochi_aot.runtime.ttnn.mock.stand_in import claim_cache
from mochi_aot.runtime.ttnn.simulated_machines import CONFIGURATIONS, simulated_machine

_LOGGER = logging.getLogger("mochi_aot")
LIBRARY = "TT_METAL_SIMULATOR"
_ROOT = "TT_METAL_RUNTIME_ROOT"
_SOC = {
    WORMHOLE: "tt_metal/soc_descriptors/wormhole_b0_80_arch.yaml",
    BLACKHOLE: "tt_metal/soc_descriptors/blackhole_140_arch.yaml",
}
# Of the user's environment these are for hardware, and are in the simulator's way.
_FOR_HARDWARE = ("TT_VISIBLE_DEVICES", "TT_METAL_WATCHER", "TT_MESH_GRAPH_DESC_PATH", "TT_METAL_MOCK_CLUSTER_DESC_PATH")
_SETTINGS = {
    "TT_METAL_SLOW_DISPATCH_MODE": "1",  # commands come from the host, one by one: there are no traces
    # A simulated chip is many thousand times slower than a real one, and must not be taken for one that hangs.
    "TT_METAL_FABRIC_ROUTER_SYNC_TIMEOUT_MS": "500000",
    "TT_METAL_OPERATION_TIMEOUT_SECONDS": "100000",
    "TT_METAL_SHM_TRACKING_DISABLED": "1",
    "OMPI_MCA_btl": "self",
}
# Only Wormhole's library takes this one: the host reaches all chips at once, not through their Ethernet firmware.
_WORMHOLE_SETTINGS = {"TTSIM_ETH_FW_ROUTING": "0"}


def enter_simulator(bundle: Bundle) -> KernelCache:
    """Point this process at a simulated machine that has the bundle's mesh, before ttnn is imported.

    The library is $TT_METAL_SIMULATOR. $TT_METAL_CACHE and $TT_METAL_RUNTIME_ROOT are the user's where they are set.
    Raises BackendError where the library or SFPI is not there, the mesh cannot be simulated, or ttnn was imported
    before; CacheError.
    """
    if "ttnn" in sys.modules:
        raise TtnnAlreadyImportedError("ttnn was imported before the simulator was entered: enter it first")
    (rows, columns), settings, library = bundle.manifest.mesh, bundle.manifest.mesh_settings, _library()
    variables = simulator_variables((rows, columns), settings, library)
    # A library for another machine fails in ways that do not say so, or ends the process.
    configuration = CONFIGURATIONS[simulated_machine((rows, columns), settings).name]
    _LOGGER.info("a simulated mesh of %dx%d: %s must be ttsim's %s", rows, columns, library, configuration)
    ignored = [name for name in _FOR_HARDWARE if os.environ.pop(name, None) is not None]
    if ignored:
        _LOGGER.warning("a simulated mesh ignores %s", ", ".join(ignored))
    os.environ.update(variables)
    ensure_home()
    return KernelCache(Path(variables["TT_METAL_CACHE"]))


def end_with_own_exit_code() -> None:
    """Have this process end with the exit code that it ends with, once its mesh is open.

    After Python has ended, ttnn resets the chips, and a simulated LoudBox ends the process there with exit code 1. So
    what C and C++ libraries registered until now for the end of the process is left out.
    """
    libc = ctypes.CDLL(None)
    libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # called with the exit code


def simulator_variables(mesh: tuple[int, int], settings: MeshSettings | None, library: Path) -> dict[str, str]:
    """Return the environment of a simulated machine with a mesh of [rows, columns] chips; its files are written first.

    Raises as `enter_simulator` does.
    """
    machine = simulated_machine(mesh, settings)
    root = _root()
    folder = cache_folder() / f"simulator-{ttnn_version()}"
    kernels = Path(os.environ.get("TT_METAL_CACHE") or folder / "kernels" / machine.name)
    try:
        beside = _write_files(folder / machine.name, library, machine)
        claim_cache(kernels, real=True)
    except OSError as error:
        raise CacheError(f"cannot prepare a simulated machine in {folder}: {error.strerror}") from error
    except MockMeshError as error:
        raise BackendError(str(error)) from None
    paths = {
        LIBRARY: beside / library.name,
        _ROOT: root,
        "TT_METAL_CACHE": path_for_ttnn(kernels),
        "TT_METAL_LOGS_PATH": path_for_ttnn(folder / "logs"),
    }
    if len(machine.unique_ids) > 1:
        paths["TT_METAL_MOCK_CLUSTER_DESC_PATH"] = beside / "cluster_descriptor.yaml"
        paths["TT_MESH_GRAPH_DESC_PATH"] = beside / "mesh_graph.textproto"
    own = _WORMHOLE_SETTINGS if machine.arch == WORMHOLE else {}
    return {name: str(path) for name, path in paths.items()} | _SETTINGS | own


def _library() -> Path:
    """Return the simulator's library. Raises BackendError where there is none."""
    named = os.environ.get(LIBRARY)
    if not named:
        raise BackendError(f"no simulator: give its library by --simulator FILE or {LIBRARY}")
    library = Path(named).absolute()
    if not library.is_file():
        raise BackendError(f"no simulator at {named}: expected the library libttsim.so of tenstorrent/ttsim")
    return library


def _root() -> Path:
    """Return ttnn's runtime root, with a real kernel compiler in it. Raises BackendError where there is none."""
    chosen = os.environ.get(_ROOT)
    if chosen:
        if not (Path(chosen) / "runtime/sfpi" / COMPILER).is_file():
            raise BackendError(f"the simulator runs real kernels, and {_ROOT}={chosen} has no runtime/sfpi/{COMPILER}")
        return Path(chosen)
    if real_sfpi(ttnn_package()) is None:
        raise BackendError(
            "the simulator runs real kernels, and their compiler SFPI is not installed: install it in "
            "/opt/tenstorrent/sfpi"
        )
    return runtime_root()


def _write_files(folder: Path, library: Path, machine: Cluster) -> Path:
    """Put a link to the library and what must lie beside it into a folder; return that. Raises OSError."""
    _link(folder / library.name, library)
    write(folder / "soc_descriptor.yaml", (ttnn_package() / _SOC[machine.arch]).read_text())
    if len(machine.unique_ids) > 1:
        # Named so, and beside the library: without it each chip on the host's bus gets a simulator of its own.
        write(folder / "cluster_descriptor.yaml", cluster_descriptor(machine))
        write(folder / "mesh_graph.textproto", mesh_graph(machine))
    return folder


def _link(path: Path, target: Path) -> None:
    """Make a symbolic link, or lead it to another target. Raises OSError."""
    if path.is_symlink() and path.readlink() == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.symlink_to(target)
