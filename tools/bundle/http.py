"""HTTP as pulls and registries need it: ranges, and errors that say what happened."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.layout import MANIFEST_PATH, MAX_METADATA_BYTES
from mochi_aot.artifacts.schema import File
from mochi_aot.runtime.signatures import SIGNATURE_BYTES, SIGNATURE_FOLDER
from mochi_aot.tools.bundle.remote import RemoteError, not_there, only

TIMEOUT = httpx2.Timeout(60, connect=20)  # seconds without a byte
MISSING = (404, 410)


def client(auth: httpx2.Auth | None = None) -> httpx2.Client:
    """Return a client that follows redirects, and asks for bytes as they are: nothing is inflated on arrival."""
    headers = {"Accept-Encoding": "identity"}
    return httpx2.Client(auth=auth, headers=headers, timeout=TIMEOUT, follow_redirects=True)


@contextmanager
def responding(http: httpx2.Client, method: str, url: str, **named: Any) -> Iterator[httpx2.Response]:
    """Give a response whose body is not read yet. Raise RemoteError where there is none, or it breaks off."""
    try:
        with http.stream(method, url, **named) as response:
            yield response
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise RemoteError(f"{url}: {str(error) or type(error).__name__}") from error


def require(response: httpx2.Response, *expected: int) -> None:
    """Raise RemoteError unless the status is one of these."""
    if response.status_code not in expected:
        method, url = response.request.method, response.request.url
        raise RemoteError(f"{url}: {method} gave {response.status_code} {response.reason_phrase}")


def get_small(http: httpx2.Client, url: str, most: int, headers: Mapping[str, str] | None = None) -> bytes | None:
    """Return what a URL has, of a larger one the first `most` bytes and one more; None where there is nothing."""
    with responding(http, "GET", url, headers=headers) as response:
        if response.status_code in MISSING:
            return None
        require(response, 200)
        return b"".join(only(response.iter_raw(), most + 1))


def get_range(http: httpx2.Client, url: str, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes [start, end) of what a URL has, or fewer, also from servers that know no ranges."""
    headers = {"Range": f"bytes={start}-{end - 1}"}
    with responding(http, "GET", url, headers=headers) as response:
        if response.status_code in MISSING:
            raise BundleError(f"{url} is not there: the bundle is not whole at this place")
        require(response, 200, 206)
        skip = start if response.status_code == 200 else 0
        if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise RemoteError(f"{url}: asked for bytes from {start}, got {response.headers.get('Content-Range')!r}")
        yield from only(_without(response.iter_raw(), skip), end - start)


def _without(blocks: Iterable[bytes], skip: int) -> Iterator[bytes]:
    for block in blocks:
        if len(block) > skip:
            yield block[skip:]
        skip = max(skip - len(block), 0)


class HttpSource:
    """A bundle's folder as any web server serves it. Such servers list nothing: signatures are asked for by name."""

    def __init__(self, url: str) -> None:
        self._url, self._http = url.rstrip("/"), client()

    def manifest(self) -> bytes:
        """See Source."""
        data = get_small(self._http, f"{self._url}/{MANIFEST_PATH}", MAX_METADATA_BYTES)
        if data is None:
            raise not_there(self._url)
        return data

    def signatures(self, wanted: Iterable[str]) -> dict[str, bytes]:
        """See Source."""
        urls = {name: f"{self._url}/{SIGNATURE_FOLDER}/{name}" for name in wanted}
        found = {name: get_small(self._http, url, SIGNATURE_BYTES) for name, url in urls.items()}
        return {name: data for name, data in found.items() if data is not None}

    def read(self, file: File, start: int, end: int) -> Iterator[bytes]:
        """See Source."""
        return get_range(self._http, f"{self._url}/{file.path}", start, end)
