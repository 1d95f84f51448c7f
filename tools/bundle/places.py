"""Which place a URL names. What a kind of place needs is imported only for it."""

from mochi_aot.tools.bundle.remote import Sink, Source, UrlError


def open_source(url: str) -> Source:
    """Return the place that a URL names, for pulling. Raise UrlError, and ExtraMissingError without its package."""
    scheme, rest = _split(url)
    if scheme in ("http", "https"):
        from mochi_aot.tools.bundle.http import HttpSource

        return HttpSource(url)
    if scheme == "oci":
        from mochi_aot.tools.bundle.oci import OciSource, parse_reference

        return OciSource(parse_reference(rest))
    from mochi_aot.tools.bundle.filesystem import FilesystemSource

    return FilesystemSource(url)


def open_sink(url: str) -> Sink:
    """Return the place that a URL names, for pushing. Raise UrlError, and ExtraMissingError without its package."""
    scheme, rest = _split(url)
    if scheme in ("http", "https"):
        raise UrlError(f"{url}: nothing can be pushed by http; use oci://, s3:// or another of fsspec's")
    if scheme == "oci":
        from mochi_aot.tools.bundle.oci import OciSink, parse_reference

        return OciSink(parse_reference(rest))
    from mochi_aot.tools.bundle.filesystem import FilesystemSink

    return FilesystemSink(url)


def _split(url: str) -> tuple[str, str]:
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.replace("+", "").replace("-", "").isalnum() or not rest.strip("/"):
        raise UrlError(
            f"{url!r} is no URL of a bundle; expected such as s3://bucket/name, https://..., oci://host/name:tag, file:///..."
        )
    return scheme, rest
