"""From a bundle's target to the backend that runs it. Only the chosen backend's libraries are imported."""

from mochi_aot.artifacts.schema import Manifest
from mochi_aot.runtime.backend import Backend
from mochi_aot.runtime.errors import BackendError


def open_backend(manifest: Manifest, device: str) -> Backend:
    """Returns a backend for the bundle's target and mesh, with no weights on it yet; `device` is for torch only.

    Raises BackendError for a target that this version does not run, a library that is not installed, or a device that
    is not there.
    """
    if manifest.target != "torch":
        raise BackendError(f"the bundle was compiled for target {manifest.target!r}; this version runs torch")
    try:
        from mochi_aot.runtime.torch import TorchBackend
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise BackendError(
            "the bundle's target is torch, which is not installed: pip install 'mochi-aot[torch]'"
        ) from None
    rows, columns = manifest.mesh
    return TorchBackend(rows, columns, device)
