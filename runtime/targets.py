"""From a bundle's target to the backend that runs it. Only the chosen backend's libraries are imported."""

import atexit
import os

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.backend import Backend
from mochi_aot.runtime.errors import BackendError

# What each target runs on; the first is the default.
DEVICES = {"torch": ("cpu", "cuda"), "ttnn": ("chips", "mock")}
# Targets whose attention is told how many tokens of a prompt count, not which: these must come first.
COUNTING_TARGETS = ("ttnn",)


def choose_device(target: str, device: str | None) -> str:
    """Returns the device, or for None the target's default.

    Raises BackendError for a target that this version does not run, or a device that its bundles do not run on.
    """
    if target not in DEVICES:
        known = " and ".join(DEVICES)
        raise BackendError(f"the bundle was compiled for target {target!r}; this version runs {known}")
    devices = DEVICES[target]
    if device is not None and device not in devices:
        raise BackendError(f"device {device!r}: expected {' or '.join(devices)}, on which bundles for {target} run")
    return device or devices[0]


def open_backend(bundle: Bundle, device: str | None = None) -> Backend:
    """Returns a backend for the bundle's target and mesh, with no weights on it yet.

    Raises BackendError for a target or device that `choose_device` refuses, a library that is not installed, or
    hardware that is not there; BundleError if the bundle's kernels are damaged.
    """
    target = bundle.manifest.target
    device = choose_device(target, device)
    opener = _open_torch if target == "torch" else _open_ttnn
    try:
        return opener(bundle, device)
    except ModuleNotFoundError as error:
        if error.name != target:
            raise
        package = {"torch": "'mochi-aot[torch]'", "ttnn": "mochi-aot"}[target]
        problem = f"the bundle's target is {target}, which is not installed: pip install {package}"
        raise BackendError(problem) from None


def _open_torch(bundle: Bundle, device: str) -> Backend:
    from mochi_aot.runtime.torch import TorchBackend

    rows, columns = bundle.manifest.mesh
    return TorchBackend(rows, columns, device)


def _open_ttnn(bundle: Bundle, device: str) -> Backend:
    # ttnn tells of its configuration otherwise, and on stdout of each device; its errors become ours.
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")
    os.environ.setdefault("TT_METAL_LOGGER_LEVEL", "off")
    from mochi_aot.runtime.ttnn.environment import enter_chips, enter_mock_mesh, tell_version

    kernels = (enter_mock_mesh if device == "mock" else enter_chips)(bundle)
    from mochi_aot.runtime.ttnn.backend import TtnnBackend

    tell_version(bundle)
    backend = TtnnBackend.open(bundle.manifest.mesh, bundle.manifest.mesh_settings, kernels)
    atexit.register(backend.close)
    return backend
