"""Prepares this process for a bundle, before ttnn is imported: a mocked mesh or chips, and kernels built ahead of time.

Kernels are found again by their key, schema.Kernels: those under another key are left alone, and built when they are
needed.
"""

import logging
import os
from pathlib import Path

from mochi_aot.artifacts.kernel_archive import unpack_kernels
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Kernels
from mochi_aot.runtime.cache import cache_folder, ensure_home, making
from mochi_aot.runtime.errors import BackendError, CacheError
from mochi_aot.runtime.ttnn.fixed_path import path_for_ttnn
from mochi_aot.runtime.ttnn.kernel_cache import KernelCache
from mochi_aot.runtime.ttnn.kernel_check import KernelCopy
from mochi_aot.runtime.ttnn.kernel_copies import remove_old_copies, use_copy
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock
from mochi_aot.runtime.ttnn.mock.installation import real_sfpi, ttnn_package, ttnn_version
from mochi_aot.runtime.ttnn.mock.root import runtime_root
from mochi_aot.runtime.ttnn.mock.stand_in import claim_cache

_LOGGER = logging.getLogger("mochi_aot")
CHOSEN_BY_USER = ("TT_METAL_CACHE", "TT_METAL_RUNTIME_ROOT")
# Bytes of host memory that ttnn keeps pinned for transfers of more than 32 MiB; none: it copies instead. Pinning what
# lies in a mapped file hangs chips (tt-metal issues 55957, 56613, 57269), where it does not begin with a page always
# (pull request 56585), as what is behind the header of a tensor file never does.
_PINNED = "TT_METAL_PINNED_MEMORY_CACHE_LIMIT_BYTES"


def mock_folder() -> Path:
    """Return where the files of mock meshes are kept for the installed ttnn, and kernels that no bundle has.

    Raises CacheError, TtnnMissingError.
    """
    return cache_folder() / f"mock-{ttnn_version()}"


def tell_version(bundle: Bundle) -> None:
    """Warn if the bundle was compiled for another ttnn than the one that is installed."""
    made, here = bundle.manifest.ttnn, ttnn_version()
    if made != here:
        _LOGGER.warning(
            "the bundle was compiled for ttnn %s, and this is %s: its ops may mean something else here; "
            "compile it again if anything looks wrong",
            made,
            here,
        )


def enter_mock_mesh(bundle: Bundle) -> KernelCache:
    """Point this process at a mock of the bundle's mesh. Kernels that are not in the bundle are kept for this user.

    Raises BackendError if the mesh cannot be mocked, BundleError if the bundle's kernels are damaged.
    """
    rows, columns = bundle.manifest.mesh
    stand_in = real_sfpi(ttnn_package()) is None
    settings = bundle.manifest.mesh_settings
    assert settings is not None, "a bundle for ttnn says how to open its mesh"
    copy = _unpacked(bundle, stand_in)
    environment = prepare_mock((rows, columns), mock_folder(), copy.place if copy else None, settings.arch)
    enter_mock(environment)
    return KernelCache(Path(environment.variables["TT_METAL_CACHE"]), copy)


def enter_chips(bundle: Bundle) -> KernelCache | None:
    """Point this process at the bundle's kernels, if they may run on chips; None if ttnn builds all kernels itself.

    What ttnn writes goes to the cache folder, except where the user has set the variables that say where. Weights are
    not pinned, except where the user has said how many bytes may be.
    Raises CacheError, and BundleError if the bundle's kernels are damaged.
    """
    ensure_home()
    os.environ.setdefault(_PINNED, "0")
    chosen = [name for name in CHOSEN_BY_USER if name in os.environ]
    own = cache_folder() / f"chips-{ttnn_version()}"
    os.environ.setdefault("TT_METAL_LOGS_PATH", str(path_for_ttnn(own / "logs")))
    copy = None
    if chosen and bundle.manifest.kernels is not None:
        _tell(f"{' and '.join(chosen)} set in the environment")
    elif not chosen:
        copy = _unpacked(bundle, stand_in=False)
    os.environ.setdefault("TT_METAL_CACHE", str(path_for_ttnn(copy.place if copy else own / "kernels")))
    if copy is None:
        return None
    os.environ["TT_METAL_RUNTIME_ROOT"] = str(runtime_root())
    return KernelCache(copy.place, copy)


def _unpacked(bundle: Bundle, stand_in: bool) -> KernelCopy | None:
    """Return a writable copy of the bundle's kernels for this user, checked.

    None, and a warning, if they are of no use here.
    """
    kernels = bundle.manifest.kernels
    if kernels is None:
        return None
    try:
        reason = kernel_mismatch(kernels, stand_in)
        if reason is None:
            return _copy(bundle, kernels)
    except CacheError:
        raise
    except (OSError, BackendError) as error:
        reason = str(error)
    _tell(reason)
    return None


def kernel_mismatch(kernels: Kernels, stand_in: bool) -> str | None:
    """Return why kernels cannot be used where those of a stand-in, or real ones, are wanted; None if they can."""
    if kernels.stand_in != stand_in:
        made = ("a real compiler", "the stand-in compiler, and do nothing")[kernels.stand_in]
        return f"they were made by {made}"
    if kernels.ttnn != ttnn_version():
        return f"they are for ttnn {kernels.ttnn}, and this is {ttnn_version()}"
    root = str(runtime_root())
    if kernels.root != root:
        return f"they were built with ttnn at {kernels.root}, and here it is at {root}"
    return None


def _copy(bundle: Bundle, kernels: Kernels) -> KernelCopy:
    """Return the copy of the kernels, which is made once for each user, and checked.

    Raises OSError, MockMeshError, and BundleError for a damaged archive.
    """
    archive = bundle.kernel_archive()
    place = cache_folder() / "kernels" / bundle.manifest.files[kernels.file].blake3
    place.parent.mkdir(parents=True, exist_ok=True)
    with use_copy(place) as alone:
        if not place.is_dir():
            remove_old_copies(place.parent)
            _unpack(archive, place, kernels)
        return KernelCopy(place, archive, alone)


def _unpack(archive: Path, place: Path, kernels: Kernels) -> None:
    """Unpack an archive, which was checked. Where files cannot be locked, processes may do so at the same time."""
    with making(place) as folder:
        new = folder / "new"
        claim_cache(new, real=not kernels.stand_in)
        unpack_kernels(archive, new)
        try:
            new.rename(place)
        except OSError:
            if not place.is_dir():  # no other process was first
                raise


def _tell(reason: str) -> None:
    _LOGGER.warning("the bundle's kernels are not used: %s; ttnn builds them as needed", reason)
