"""From a bundle's target to the backend that runs it. Only the chosen backend's libraries are imported."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from mochi_aot.artifacts.schema import Manifest
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


def open_backend(manifest: Manifest, device: str | None = None) -> Backend:
    """Returns a backend for the bundle's target and mesh, with no weights on it yet.

    Raises BackendError for a target or device that `choose_device` refuses, a library that is not installed, or
    hardware that is not there.
    """
    device = choose_device(manifest.target, device)
    rows, columns = manifest.mesh
    opener = _open_torch if manifest.target == "torch" else _open_ttnn
    try:
        return opener(rows, columns, device)
    except ModuleNotFoundError as error:
        if error.name != manifest.target:
            raise
        package = {"torch": "'mochi-aot[torch]'", "ttnn": "mochi-aot"}[manifest.target]
        problem = f"the bundle's target is {manifest.target}, which is not installed: pip install {package}"
        raise BackendError(problem) from None


def _open_torch(rows: int, columns: int, device: str) -> Backend:
    from mochi_aot.runtime.torch import TorchBackend

    return TorchBackend(rows, columns, device)


def _open_ttnn(rows: int, columns: int, device: str) -> Backend:
    # ttnn tells of its configuration otherwise, and on stdout of each device; its errors become ours.
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")
    os.environ.setdefault("TT_METAL_LOGGER_LEVEL", "off")
    if device == "mock":
        _mock_mesh(rows, columns)
    from mochi_aot.runtime.ttnn.backend import TtnnBackend

    backend = TtnnBackend.open(rows, columns)
    atexit.register(backend.close)
    return backend


def _mock_mesh(rows: int, columns: int) -> None:
    from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock

    folder = tempfile.mkdtemp(prefix="mochi-mock-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    enter_mock(prepare_mock((rows, columns), Path(folder)))
