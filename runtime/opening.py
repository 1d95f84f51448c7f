"""Opens what is to be run: a bundle, perhaps with a delta, and asks who vouches for both."""

from pathlib import Path

from mochi_aot.artifacts.delta import OpenDelta, StyledBundle
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.signatures import check_origin, require_signature


def open_bundle(
    path: str | Path, delta: str | Path | None = None, keys: Path | None = None, expected_id: str | None = None
) -> Bundle:
    """Open the bundle in a folder, and with it the delta in another, if one is given.

    `keys` is a file of trusted keys, one of which must have signed the bundle, and one the delta; `expected_id` is the
    bundle's. Raise BundleError for what is not whole, or does not belong together, and SignatureError.
    """
    bundle = Bundle.open(path)
    check_origin(bundle, keys, expected_id)
    return bundle if delta is None else styled(bundle, delta, keys)


def styled(base: Bundle, delta: str | Path, keys: Path | None = None) -> StyledBundle:
    """Return an opened bundle with a delta. Raise as `open_bundle`."""
    opened = OpenDelta.open(delta)
    if keys is not None:
        require_signature(opened, keys)
    return StyledBundle(base, opened)
