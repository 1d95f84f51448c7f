"""Puts signatures beside a bundle's manifest."""

from collections.abc import Callable
from pathlib import Path

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.delta import OpenDelta
from mochi_aot.artifacts.errors import os_errors
from mochi_aot.artifacts.layout import DELTA_PATH
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.errors import SignatureError
from mochi_aot.runtime.signatures import (
    MAX_SIGNATURES,
    SIGNATURE_FOLDER,
    PublicKey,
    Signed,
    public_key,
    read_private_key,
    signatures,
    statement,
)


def open_signed(path: Path) -> Bundle | OpenDelta:
    """Open what is signed, a bundle or a delta. Raise BundleError for what is neither."""
    return OpenDelta.open(path) if (path / DELTA_PATH).exists() else Bundle.open(path)


def sign(bundle: Signed, key_file: Path, password: Callable[[], bytes] | None = None) -> PublicKey:
    """Sign a bundle, or a delta, with the key in a file, in the place of an older signature by it.

    Return the public key. Raise InputFileError for a file without an Ed25519 private key, and SignatureError where no
    more signatures fit.
    """
    private = read_private_key(key_file, password)
    key, there = public_key(private), signatures(bundle.path)
    if key.fingerprint not in there and len(there) == MAX_SIGNATURES:
        raise SignatureError(f"{bundle.path} has {MAX_SIGNATURES} signatures, which is the most; remove one")
    folder = bundle.path / SIGNATURE_FOLDER
    with os_errors(f"write in {folder}"):
        folder.mkdir(exist_ok=True)
        with replacing(folder / key.fingerprint) as place:
            place.write_bytes(private.sign(statement(bundle.id)))
    return key
