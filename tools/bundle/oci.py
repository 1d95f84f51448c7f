"""Bundles in an OCI registry: an artifact whose layers are a bundle's files.

By the image and distribution specifications 1.1. The registry has every blob by its SHA-256: what another bundle
in the repository has is not sent again.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2

from mochi_aot.artifacts.errors import BundleError, BundleExistsError
from mochi_aot.artifacts.layout import FORMAT_VERSION, HASH_HEX, MANIFEST_PATH, MAX_METADATA_BYTES
from mochi_aot.artifacts.pieces import Checker, Piece
from mochi_aot.artifacts.schema import File
from mochi_aot.runtime.signatures import MAX_SIGNATURES, SIGNATURE_BYTES, SIGNATURE_FOLDER
from mochi_aot.tools.bundle.contents import Contents, blocks
from mochi_aot.tools.bundle.http import MISSING, client, get_range, get_small, require, responding
from mochi_aot.tools.bundle.oci_auth import RegistryAuth
from mochi_aot.tools.bundle.remote import Progress, UrlError, not_there

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
ARTIFACT_TYPE = f"application/vnd.mochi-aot.bundle.v{FORMAT_VERSION}"
FILE_TYPE = "application/vnd.mochi-aot.file"
TITLE = "org.opencontainers.image.title"
ID = "org.mochi-aot.bundle.id"
MAX_MANIFEST_BYTES = 4 << 20  # that a registry must take, and most do not exceed

# The grammar of names and tags in the distribution specification; a host may have a port.
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<host>[A-Za-z0-9.-]+(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?)/(?P<name>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))",
    re.ASCII,
)


@dataclass(frozen=True)
class Reference:
    """A repository, and a tag or a digest in it."""

    host: str
    name: str
    reference: str

    def __str__(self) -> str:
        separator = "@" if ":" in self.reference else ":"
        return f"oci://{self.host}/{self.name}{separator}{self.reference}"

    @property
    def base(self) -> str:
        """The URL of the repository: https, but for a registry on this machine."""
        bare = self.host.rpartition(":")[0] if re.search(r":\d+$", self.host) else self.host
        scheme = "http" if bare in ("localhost", "127.0.0.1", "[::1]") else "https"
        return f"{scheme}://{self.host}/v2/{self.name}"


def parse_reference(text: str) -> Reference:
    """Return the reference HOST/NAME:TAG or HOST/NAME@sha256:DIGEST. Raise UrlError for anything else."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise UrlError(f"oci://{text}: expected oci://HOST/NAME:TAG, or oci://HOST/NAME@sha256:DIGEST")
    return Reference(match["host"], match["name"], match["tag"] or match["digest"])


@dataclass(frozen=True)
class Blob:
    """What a registry has of a file."""

    digest: str
    nbytes: int


class OciSource:
    """See Source."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._http = client(RegistryAuth(reference.host, reference.name, push=False))
        self._layers: dict[str, Blob] | None = None

    def manifest(self) -> bytes:
        """See Source."""
        return self._small(MANIFEST_PATH, MAX_METADATA_BYTES)

    def signatures(self, wanted: Iterable[str]) -> dict[str, bytes]:
        """See Source."""
        found: dict[str, bytes] = {}
        for path in self._blobs():
            folder, _, name = path.partition("/")
            if folder == SIGNATURE_FOLDER and HASH_HEX.fullmatch(name) and len(found) < MAX_SIGNATURES:
                found[name] = self._small(path, SIGNATURE_BYTES)
        return found

    def read(self, file: File, start: int, end: int) -> Iterator[bytes]:
        """See Source."""
        blob = self._blob(file.path)
        if blob.nbytes != file.nbytes:
            raise BundleError(f"{self._reference}: {file.path}: expected {file.nbytes} bytes, seen {blob.nbytes}")
        return get_range(self._http, f"{self._reference.base}/blobs/{blob.digest}", start, end)

    def _small(self, path: str, most: int) -> bytes:
        blob = self._blob(path)
        data = get_small(self._http, f"{self._reference.base}/blobs/{blob.digest}", most)
        if data is None or f"sha256:{hashlib.sha256(data).hexdigest()}" != blob.digest:
            raise BundleError(f"{self._reference}: {path}: its blob {blob.digest} is not there, or another")
        return data

    def _blob(self, path: str) -> Blob:
        try:
            return self._blobs()[path]
        except KeyError:
            raise BundleError(f"{self._reference}: no layer is {path}; expected an artifact of mochi-bundle") from None

    def _blobs(self) -> dict[str, Blob]:
        if self._layers is None:
            data = manifest_of(self._http, self._reference)
            if data is None:
                raise not_there(str(self._reference))
            self._layers = _layers(data, str(self._reference))
        return self._layers


class OciSink:
    """See Sink."""

    def __init__(self, reference: Reference) -> None:
        if ":" in reference.reference:
            raise UrlError(f"{reference}: give a tag to push to; the digest follows from what is pushed")
        self._reference = reference
        self._http = client(RegistryAuth(reference.host, reference.name, push=True))
        self._layers: list[dict[str, Any]] = []

    def begin(self, contents: Contents, force: bool) -> None:
        """See Sink."""
        there = manifest_of(self._http, self._reference)
        if there is not None and not force and _bundle_id(there) != contents.id:
            raise BundleExistsError(f"{self._reference} is something else; choose another tag, or use --force")

    def put(self, item: File, place: Path, file_pieces: list[Piece], progress: Progress) -> int:
        """See Sink. The file is read once to know its digest, and again if it is sent."""
        checker, digest = Checker(file_pieces, str(place)), hashlib.sha256()
        for block in blocks(place):
            checker.update(block)
            digest.update(block)
        checker.finish()
        blob = Blob(f"sha256:{digest.hexdigest()}", item.nbytes)
        self._layers.append(_layer(item.path, blob))
        if self._has(blob):
            progress(item.nbytes)
            return 0
        self._upload(blob, _counted(blocks(place), progress))
        return item.nbytes

    def publish(self, contents: Contents, signatures: dict[str, bytes]) -> None:
        """See Sink. The tag comes last, and at once."""
        small = {MANIFEST_PATH: contents.data}
        small |= {f"{SIGNATURE_FOLDER}/{name}": data for name, data in signatures.items()}
        layers = [_layer(path, self._put_small(data)) for path, data in small.items()] + self._layers
        config = self._put_small(EMPTY)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": EMPTY_TYPE, "digest": config.digest, "size": config.nbytes},
            "layers": layers,
            "annotations": {ID: contents.id},
        }
        data = json.dumps(manifest, separators=(",", ":")).encode()
        if len(data) > MAX_MANIFEST_BYTES:
            raise BundleError(f"{self._reference}: {len(layers)} files are more than a registry's manifest can have")
        url = f"{self._reference.base}/manifests/{self._reference.reference}"
        with responding(self._http, "PUT", url, content=data, headers={"Content-Type": MANIFEST_TYPE}) as response:
            require(response, 201)

    def _put_small(self, data: bytes) -> Blob:
        blob = Blob(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        if not self._has(blob):
            self._upload(blob, iter([data]))
        return blob

    def _has(self, blob: Blob) -> bool:
        with responding(self._http, "HEAD", f"{self._reference.base}/blobs/{blob.digest}") as response:
            if response.status_code in MISSING:
                return False
            require(response, 200)
            return True

    def _upload(self, blob: Blob, data: Iterator[bytes]) -> None:
        start = f"{self._reference.base}/blobs/uploads/"
        with responding(self._http, "POST", start, headers={"Content-Length": "0"}) as response:
            require(response, 202)
            place = urljoin(start, response.headers.get("Location", ""))
        url = httpx2.URL(place).copy_merge_params({"digest": blob.digest})
        headers = {"Content-Length": str(blob.nbytes), "Content-Type": "application/octet-stream"}
        with responding(self._http, "PUT", str(url), content=data, headers=headers) as response:
            require(response, 201)


def manifest_of(http: httpx2.Client, reference: Reference) -> bytes | None:
    """Return the registry's manifest of an artifact, its digest compared if that is known; None where there is none.

    Raise BundleError for one that is larger than MAX_MANIFEST_BYTES or another than its digest says.
    """
    url = f"{reference.base}/manifests/{reference.reference}"
    data = get_small(http, url, MAX_MANIFEST_BYTES, {"Accept": MANIFEST_TYPE})
    if data is None:
        return None
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{reference}: a manifest of more than {MAX_MANIFEST_BYTES} bytes")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if ":" in reference.reference and digest != reference.reference:
        raise BundleError(f"{reference}: seen {digest}")
    return data


def _layers(data: bytes, where: str) -> dict[str, Blob]:
    """Return the blobs of an artifact by their titles. Raise BundleError for what is no artifact of mochi-bundle."""
    try:
        layers = json.loads(data)["layers"]
        found = {
            layer["annotations"][TITLE]: Blob(layer["digest"], layer["size"]) for layer in layers if TITLE in str(layer)
        }
        digests = [str(blob.digest).removeprefix("sha256:") for blob in found.values()]
        sound = all(map(HASH_HEX.fullmatch, digests)) and all(type(blob.nbytes) is int for blob in found.values())
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise BundleError(f"{where}: not an artifact as mochi-bundle pushes it")
    return found


def _bundle_id(data: bytes) -> str | None:
    try:
        found = json.loads(data)["annotations"][ID]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _layer(path: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": FILE_TYPE, "digest": blob.digest, "size": blob.nbytes, "annotations": {TITLE: path}}


def _counted(data: Iterator[memoryview], progress: Progress) -> Iterator[bytes]:
    for block in data:
        yield bytes(block)
        progress(len(block))
