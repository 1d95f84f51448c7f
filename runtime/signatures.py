"""Who vouches for a bundle: Ed25519 signatures over its id, in files beside the manifest, and the trusted keys.

A signature is 64 bytes (RFC 8032) in `signatures/<fingerprint>`, over the text of `statement`. The id names the
manifest, which names every other byte by its hash: no more needs to be signed. The files are not part of the id.
"""

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mochi_aot.artifacts.errors import os_errors
from mochi_aot.artifacts.layout import HASH_HEX
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.regular_file import read_regular
from mochi_aot.runtime.errors import ExtraMissingError, InputFileError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_FOLDER = "signatures"
SIGNATURE_BYTES = 64
MAX_SIGNATURES = 64  # that are listed or carried along with a bundle
MAX_KEY_FILE_BYTES = 1 << 20

_TYPE = b"ssh-ed25519"
# RFC 4253, 6.6 and RFC 8709, 4: the name of the type, then the key, each behind its length.
_BLOB_HEAD = len(_TYPE).to_bytes(4, "big") + _TYPE + (32).to_bytes(4, "big")
_OTHER_TYPES = ("ssh-", "ecdsa-", "sk-")  # that OpenSSH has lines of
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


class Signed(Protocol):
    """What is signed: a bundle, or a delta."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def id(self) -> str:
        """SHA-256 of the file that names every other byte."""


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 key: its 32 bytes, and what its line says of whose it is."""

    raw: bytes
    comment: str = ""

    @property
    def fingerprint(self) -> str:
        """The name of this key's signatures: SHA-256, in hex, of the key as OpenSSH encodes it."""
        return hashlib.sha256(_BLOB_HEAD + self.raw).hexdigest()

    @property
    def text(self) -> str:
        """The fingerprint as `ssh-keygen -l` shows it, and whose the key is."""
        return f"{shown(self.fingerprint)} {self.comment}".rstrip()


def shown(fingerprint: str) -> str:
    """Return a fingerprint as `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(bytes.fromhex(fingerprint)).decode().rstrip("=")


def statement(bundle_id: str) -> bytes:
    """Return what is signed; the first line keeps signatures over bundles apart from all others of the same key."""
    return f"mochi-aot bundle signature 1\n{bundle_id}\n".encode()


def read_trusted_keys(path: Path) -> list[PublicKey]:
    """Return the keys in a file: lines as in OpenSSH's authorized_keys, without options, and PEM public keys.

    Other types' lines are passed over. Raise InputFileError for what is no key, and where there is no Ed25519 key.
    """
    text = _read_text(path)
    keys = [_pem_public(match.group(0), match.group(1), path) for match in _PEM.finditer(text)]
    for number, line in enumerate(_PEM.sub(lambda match: "\n" * match.group(0).count("\n"), text).splitlines(), 1):
        if (key := _line_key(line.strip(), f"{path}, line {number}")) is not None:
            keys.append(key)
    if not keys:
        raise InputFileError(f"{path}: no Ed25519 key; expected lines that begin with ssh-ed25519, or PEM public keys")
    return keys


def read_private_key(path: Path, password: Callable[[], bytes] | None = None) -> "Ed25519PrivateKey":
    """Return the private key in a file, PEM (PKCS #8) or OpenSSH's; `password` is asked where it is encrypted.

    Raise InputFileError for anything else, and ExtraMissingError without the library.
    """
    ed25519, serialization = _library()
    data = _read_text(path).encode()
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load: Callable[..., Any] = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        try:
            key = load(data, None)
        except TypeError:  # it is encrypted
            if password is None:
                raise InputFileError(f"{path}: the key is encrypted; give it in a terminal, or without") from None
            key = load(data, password())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputFileError(
            f"{path}: expected an Ed25519 private key, PEM (PKCS #8) or OpenSSH, and its password if it has one"
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputFileError(f"{path}: expected an Ed25519 key, seen another kind; ssh-keygen -t ed25519 makes one")
    return key


def public_key(key: "Ed25519PrivateKey") -> PublicKey:
    """Return the public half of a key."""
    return PublicKey(key.public_key().public_bytes_raw())


def signatures(folder: Path) -> dict[str, bytes]:
    """Return the signatures in a bundle's folder by fingerprint, in order, whatever they are worth.

    Raise SignatureError for anything else in their folder, and for more than MAX_SIGNATURES.
    """
    place = folder / SIGNATURE_FOLDER
    if not os.path.lexists(place):
        return {}
    with os_errors(f"read {place}"):
        names = [entry.name for entry in _first(os.scandir(place), MAX_SIGNATURES + 1)]
    if len(names) > MAX_SIGNATURES:
        raise SignatureError(f"{place}: more than {MAX_SIGNATURES} files, which is the most; remove some")
    found = {}
    for name in sorted(names):
        if HASH_HEX.fullmatch(name) is None:
            raise SignatureError(f"{place / name}: expected signatures only, named by a SHA-256 in hex; remove it")
        found[name] = read_signature(place / name)
    return found


def read_signature(place: Path) -> bytes:
    """Return the 64 bytes of a signature. Raise SignatureError for a file that is none, FileNotFoundError for none."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # no link elsewhere, no waiting
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SignatureError(f"cannot read {place}: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = file.read(SIGNATURE_BYTES + 1) if regular else b""
    if len(data) != SIGNATURE_BYTES:
        raise SignatureError(f"{place}: expected a file of {SIGNATURE_BYTES} bytes, a signature; remove it")
    return data


def check_signatures(
    bundle_id: str, found: Callable[[str], bytes], keys: Iterable[PublicKey], where: str
) -> list[PublicKey]:
    """Return the keys, of those that are trusted, whose signature of a bundle is there and right, at least one.

    `found` gives the signature of a fingerprint, or raises FileNotFoundError. Raise SignatureError if none is right,
    and ExtraMissingError without the library.
    """
    ed25519, _ = _library()
    from cryptography.exceptions import InvalidSignature

    signers, wrong, trusted = [], [], list(keys)
    for key in trusted:
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(key.raw).verify(found(key.fingerprint), statement(bundle_id))
            signers.append(key)
        except FileNotFoundError:
            continue
        except (InvalidSignature, SignatureError):
            wrong.append(key.text)
    if signers:
        return signers
    seen = f"the signature of {', '.join(wrong)} is not of this bundle" if wrong else "none of them has signed it"
    raise SignatureError(f"{where}: expected a signature by one of {len(trusted)} trusted keys, and {seen}")


def require_signature(bundle: Signed, keys: Path) -> list[PublicKey]:
    """Return the keys in the file `keys` that have signed an opened bundle, at least one. Raise as check_signatures."""
    folder = bundle.path / SIGNATURE_FOLDER
    return check_signatures(
        bundle.id, lambda name: read_signature(folder / name), read_trusted_keys(keys), str(bundle.path)
    )


def check_origin(bundle: Bundle, keys: Path | None, expected_id: str | None) -> None:
    """Raise SignatureError unless an opened bundle has this id, and a signature by a key in this file, if given."""
    if expected_id is not None and bundle.id != expected_id.strip().lower():
        raise SignatureError(f"{bundle.path}: expected the bundle {expected_id}, seen {bundle.id}")
    if keys is not None:
        require_signature(bundle, keys)


def _library() -> tuple[Any, Any]:
    """Return cryptography's modules; imported only where something is signed or verified, which takes 30 ms."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise ExtraMissingError("cryptography", "signatures need it", "pip install 'mochi-aot[sign]'") from error
    return ed25519, serialization


def _pem_public(text: str, label: str, path: Path) -> PublicKey:
    ed25519, serialization = _library()
    if label != "PUBLIC KEY":
        raise InputFileError(f"{path}: expected public keys only, seen a {label}")
    try:
        key = serialization.load_pem_public_key(text.encode())
    except ValueError:
        raise InputFileError(f"{path}: expected an Ed25519 PUBLIC KEY, seen one that cannot be read") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InputFileError(f"{path}: expected an Ed25519 PUBLIC KEY, seen another kind")
    return PublicKey(key.public_bytes_raw())


def _line_key(line: str, where: str) -> PublicKey | None:
    """Return the key of a line; None for comments and for other types of keys."""
    kind, _, rest = line.partition(" ")
    if not line or line.startswith("#") or (kind != _TYPE.decode() and kind.startswith(_OTHER_TYPES)):
        return None
    if kind != _TYPE.decode():
        # Options of authorized_keys narrow what a key is for; passing over them would widen it.
        raise InputFileError(f"{where}: expected `ssh-ed25519 KEY COMMENT`, without options in front")
    encoded, _, comment = rest.strip().partition(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if len(blob) != len(_BLOB_HEAD) + 32 or not blob.startswith(_BLOB_HEAD):
        raise InputFileError(f"{where}: not the base64 of an ssh-ed25519 key")
    return PublicKey(blob[len(_BLOB_HEAD) :], comment.strip())


def _read_text(path: Path) -> str:
    try:
        data = read_regular(path, MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror}") from error
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputFileError(f"{path}: expected keys as text, PEM or OpenSSH, seen other bytes") from None


def _first(entries: Iterable[os.DirEntry[str]], count: int) -> list[os.DirEntry[str]]:
    return [entry for entry, _ in zip(entries, range(count), strict=False)]
