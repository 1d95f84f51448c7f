"""From a bundle's target to the backend that runs it. Only the chosen backend's libraries are imported."""

import atexit
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.backend import Backend
from mochi_aot.runtime.defaults import DEVICES, MOCK, SIMULATOR
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.world import World

# Targets whose attention is told how many tokens of a prompt count, not which: these must come first.
PREFIX_MASK_TARGETS = ("ttnn",)
_WITHOUT_CHIPS = (MOCK, SIMULATOR)  # devices that are made for one mesh, before ttnn is imported
_MOCKED = "TT_METAL_MOCK_CLUSTER_DESC_PATH"  # by which ttnn knows that its chips are mocked


@dataclass
class _TtnnProcess:
    """How this process set ttnn up, which reads its environment once, when it is imported; and who has a mesh open."""

    bundle: Path
    device: str
    mesh: list[int]
    kernels: Any
    backend: Backend | None = None


_ttnn: _TtnnProcess | None = None


def choose_device(target: str, device: str | None) -> str:
    """Return the device, or for None the target's default.

    Raise BackendError for a target that this version does not run, or a device that its bundles do not run on.
    """
    if target not in DEVICES:
        known = " and ".join(DEVICES)
        raise BackendError(f"the bundle was compiled for target {target!r}; this version runs {known}")
    devices = DEVICES[target]
    if device is not None and device not in devices:
        raise BackendError(f"device {device!r}: expected {' or '.join(devices)}, on which bundles for {target} run")
    return device or devices[0]


def open_backend(bundle: Bundle, device: str | None = None, world: World | None = None) -> Backend:
    """Return a backend for the bundle's target and mesh, with no weights on it yet; it is closed when Python ends.

    With `world`, of which this is rank 0, the mesh's devices are that many processes; else this process has all.
    Raise BackendError for a target or device that `choose_device` refuses, a library that is not installed, hardware
    that is not there, or a ttnn mesh that this process cannot open beside or after another one; BundleError if the
    bundle's kernels are damaged.
    """
    target = bundle.manifest.target
    device = choose_device(target, device)
    _check_world(target, world)
    try:
        return _open_torch(bundle, device, world) if target == "torch" else _open_ttnn(bundle, device)
    except ModuleNotFoundError as error:
        if error.name != target:
            raise
        package = {"torch": "'mochi-aot[torch]'", "ttnn": "mochi-aot"}[target]
        problem = f"the bundle's target is {target}, which is not installed: pip install {package}"
        raise BackendError(problem) from None


def close_backend(backend: Backend) -> None:
    """Close a backend, which Python's end then no longer does."""
    atexit.unregister(backend.close)
    backend.close()
    if _ttnn is not None and _ttnn.backend is backend:
        _ttnn.backend = None


def follow(path: Path, device: str | None, world: World, check: bool, delta: Path | None = None) -> int:
    """Be another rank than 0 of a distributed run of the bundle at `path`, with a delta or not, until rank 0 has ended.

    Return the exit code. What failed was told to rank 0, which says it. `check`: compare weights with their hashes.
    Raise BackendError if rank 0 cannot be reached.
    """
    from mochi_aot.runtime.torch.distributed.follower import follow as follow_leader

    return follow_leader(path, world, device or DEVICES["torch"][0], check, delta)


def dismiss(world: World) -> None:
    """Have the other ranks end, for which no backend may have been opened. To be called by rank 0."""
    from mochi_aot.runtime.torch.distributed.leader import dismiss_all

    dismiss_all(world)


def _check_world(target: str, world: World | None) -> None:
    if world is not None and target != "torch":
        raise BackendError(f"{world.size} processes were started; one drives all chips of a bundle for {target}")


def _open_torch(bundle: Bundle, device: str, world: World | None) -> Backend:
    if world is not None:
        from mochi_aot.runtime.torch.distributed.leader import LeaderBackend

        return LeaderBackend(bundle, world, device)
    from mochi_aot.runtime.torch import TorchBackend

    rows, columns = bundle.manifest.mesh
    return TorchBackend(rows, columns, device)


def _open_ttnn(bundle: Bundle, device: str) -> Backend:
    global _ttnn
    if _ttnn is None:
        kernels = _enter_ttnn(bundle, device)
        _ttnn = _TtnnProcess(bundle.path, device, bundle.manifest.mesh, kernels)
    else:
        _check_again(bundle, device, _ttnn)
    from mochi_aot.runtime.ttnn.backend import TtnnBackend
    from mochi_aot.runtime.ttnn.environment import tell_version

    tell_version(bundle)
    backend = TtnnBackend.open(bundle.manifest.mesh, bundle.manifest.mesh_settings, _ttnn.kernels)
    if device == SIMULATOR:
        from mochi_aot.runtime.ttnn.simulator import end_with_own_exit_code

        end_with_own_exit_code()
    atexit.register(backend.close)
    _ttnn.backend, _ttnn.bundle = backend, bundle.path
    return backend


def _enter_ttnn(bundle: Bundle, device: str) -> Any:
    """Set ttnn up, and return the folder of kernels that it works with; None if ttnn's own is used.

    A compile for ttnn without a process of its own sets it up for a mock mesh, which bundles can then be run on, and
    chips not. Raise BackendError.
    """
    # ttnn tells of its configuration otherwise, and on stdout of each device; its errors become ours.
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")
    if device == SIMULATOR:
        os.environ.setdefault("TT_METAL_LOGGER_LEVEL", "fatal")
        from mochi_aot.runtime.ttnn.simulator import enter_simulator

        return enter_simulator(bundle)
    mocked = _MOCKED in os.environ
    if mocked and device != MOCK:
        raise BackendError(
            f"this process was set up for a mock mesh, as a compile without a process of its own does ({_MOCKED} is "
            f"set); load {bundle.path} in another process to run it on chips"
        )
    if mocked and "ttnn" in sys.modules:
        return None
    os.environ.setdefault("TT_METAL_LOGGER_LEVEL", "off")
    from mochi_aot.runtime.ttnn.environment import enter_chips, enter_mock_mesh

    return (enter_mock_mesh if device == MOCK else enter_chips)(bundle)


def _check_again(bundle: Bundle, device: str, before: _TtnnProcess) -> None:
    """Raise BackendError where a process that has opened a ttnn mesh cannot open one for this bundle too."""
    if before.backend is not None:
        raise BackendError(
            f"a process has one ttnn mesh open at a time, and {before.bundle} has it here; close that bundle before "
            f"{bundle.path} is loaded, or load it in another process"
        )
    if device != before.device or (device in _WITHOUT_CHIPS and bundle.manifest.mesh != before.mesh):
        rows, columns = before.mesh
        what = {MOCK: "a mock of", SIMULATOR: "the simulator of"}.get(before.device)
        was = "real chips" if what is None else f"{what} {rows}x{columns} chips"
        raise BackendError(f"ttnn was set up for {was} in this process; load {bundle.path} in another process")
