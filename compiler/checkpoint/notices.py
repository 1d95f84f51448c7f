"""What a checkpoint says of itself: its licence, its card, and where it comes from. It goes along into the bundle."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mochi_aot.artifacts.layout import MAX_NOTICE_BYTES, MAX_NOTICES
from mochi_aot.artifacts.regular_file import read_regular
from mochi_aot.compiler.checkpoint.errors import CheckpointError

CARD = "README.md"
_NAMES = re.compile(r"(README|MODEL_CARD)\.md|(LICEN[SC]E|COPYING|NOTICE|USE_POLICY)([.-][\w.-]*)?", re.IGNORECASE)
# How huggingface_hub lays out its cache: a folder for a repository, in it one for each commit.
_CACHED = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<revision>[0-9a-f]{40})(/|$)")
_REVISION = re.compile(r"[0-9a-f]{40}")
_LICENCE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]{1,64})[\"']?[ \t]*$", re.MULTILINE)


def is_notice(name: str) -> bool:
    """Return whether a file of this name in a checkpoint's folder is a licence or card."""
    return _NAMES.fullmatch(name) is not None


def find_notices(folders: Iterable[tuple[str, Path]]) -> dict[str, bytes]:
    """Return licences and cards by name, each behind the prefix of its folder, sorted.

    Raise CheckpointError for one that cannot be read or is larger than MAX_NOTICE_BYTES, and for more than MAX_NOTICES.
    """
    found = {}
    for prefix, folder in folders:
        for path in sorted(folder.iterdir()):
            if is_notice(path.name) and path.is_file():
                try:
                    found[prefix + path.name] = read_regular(path, MAX_NOTICE_BYTES)
                except OSError as error:
                    raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if len(found) > MAX_NOTICES:
        raise CheckpointError(f"{len(found)} licences and cards, at most {MAX_NOTICES} go along: {', '.join(found)}")
    return found


def find_origin(root: Path, notices: dict[str, bytes]) -> dict[str, str]:
    """Return what is known of `repository`, `revision` and `license`.

    The first two are huggingface_hub's, by its cache or its notes in a folder that it has filled; the license is the
    one in the card's front matter.
    """
    origin = dict(_cached(root))
    revisions = {*_noted_revisions(root)}
    if "revision" not in origin and len(revisions) == 1:
        origin["revision"] = revisions.pop()
    _, opened, rest = notices.get(CARD, b"").decode("utf-8", "replace").partition("---\n")
    match = _LICENCE.search(rest.partition("\n---")[0]) if opened else None
    return origin | ({"license": match[1]} if match else {})


def _cached(root: Path) -> dict[str, str]:
    match = _CACHED.search(str(root.absolute())) or _CACHED.search(str(root.resolve()))
    return {"repository": f"{match['owner']}/{match['name']}", "revision": match["revision"]} if match else {}


def _noted_revisions(root: Path) -> Iterator[str]:
    """Yield the commits that huggingface_hub has noted for files of a folder: the first line of each note."""
    for note in root.glob(".cache/huggingface/download/**/*.metadata"):
        try:
            first = read_regular(note, MAX_NOTICE_BYTES).decode("ascii", "replace").partition("\n")[0]
        except OSError:
            continue
        if _REVISION.fullmatch(first):
            yield first
