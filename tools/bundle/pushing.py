"""Pushes a bundle: by content, each shard checked as it leaves, the manifest last."""

from mochi_aot.artifacts.layout import MANIFEST_PATH
from mochi_aot.artifacts.pieces import pieces
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.signatures import signatures
from mochi_aot.tools.bundle.contents import blocks, read_contents
from mochi_aot.tools.bundle.remote import Progress, Sink


def push(bundle: Bundle, sink: Sink, force: bool, progress: Progress) -> int:
    """Have a bundle and its signatures at a sink; return the bytes of its files that had to be sent.

    `progress` is told of all bytes. Raise RemoteError if the sink fails, BundleExistsError where another bundle is
    unless `force` is set, and BundleError for a bundle that is damaged.
    """
    place = bundle.path / MANIFEST_PATH
    contents = read_contents(b"".join(map(bytes, blocks(place))), str(place))
    found = signatures(bundle.path)
    sink.begin(contents, force)
    sent = 0
    for file, file_pieces in zip(contents.manifest.files, pieces(contents.manifest), strict=True):
        sent += sink.put(file, bundle.path / file.path, file_pieces, progress)
    sink.publish(contents, found)
    progress(len(contents.data))
    return sent
