"""Names of the Hugging Face hub: ids of repositories, and how its cache names their folders."""

import re
from pathlib import Path

_ID = re.compile(r"\w[\w.-]*/(\w[\w.-]*)")
_CACHED = re.compile(r"models--\w[\w.-]*?--(\w[\w.-]*)")


def is_hub_id(text: str) -> bool:
    """Return whether `text` is OWNER/NAME and no path of this machine."""
    return _ID.fullmatch(text) is not None and not Path(text).exists()


def hub_name(text: str) -> str | None:
    """Return the name without the owner of a repository that `text` is the id of, or a path in the hub's cache of."""
    if is_hub_id(text):
        return text.partition("/")[2]
    matches = (_CACHED.fullmatch(part) for part in Path(text).absolute().parts)
    return next((match[1] for match in matches if match), None)
