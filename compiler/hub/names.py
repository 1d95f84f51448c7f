"""Names of the Hugging Face hub: ids of repositories, and how its cache names their folders."""

import re
from dataclasses import dataclass
from pathlib import Path

_ID = re.compile(r"\w[\w.-]*/(\w[\w.-]*)")
_PART = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:/(\w[\w. /-]*))?(?:@([\w./-]+))?")
_CACHED = re.compile(r"models--\w[\w.-]*?--(\w[\w.-]*)")


@dataclass(frozen=True)
class PartName:
    """A file or a folder of a repository; `path` is empty where the repository itself is meant."""

    repository: str
    path: str
    revision: str | None


def part_name(text: str) -> PartName | None:
    """Return what OWNER/NAME[/PATH][@REVISION] names; None for a path of this machine, and what no name can be."""
    found = _PART.fullmatch(text)
    if found is None or Path(text).exists():
        return None
    return PartName(found[1], (found[2] or "").rstrip("/"), found[3])


def is_hub_id(text: str) -> bool:
    """Return whether `text` is OWNER/NAME and no path of this machine."""
    return _ID.fullmatch(text) is not None and not Path(text).exists()


def hub_name(text: str) -> str | None:
    """Return the name without the owner of a repository that `text` is the id of, or a path in the hub's cache of."""
    if is_hub_id(text):
        return text.partition("/")[2]
    matches = (_CACHED.fullmatch(part) for part in Path(text).absolute().parts)
    return next((match[1] for match in matches if match), None)
