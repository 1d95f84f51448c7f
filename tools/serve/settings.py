"""What limits a server: the options of `mochi-serve`, and numbers that nobody needs to set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_BODY = 256 * 1024  # bytes of a request; the longest prompt in UTF-8, and the rest of a form
BODY_SECONDS = 30.0  # to send that
MAX_PROMPT = 10_000  # characters; a bundle uses 256 tokens
MAX_STEPS = 1000
MAX_REQUESTS = 512  # at one time
MAX_PRIORITY = 100


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    `bundles` are folders by the name that requests have in `model`; the first one is meant where there is no model, and
    `styles` are deltas of the first one, by names that requests have there too. `state` is the folder of the queue and
    the videos. `keys` is the file of API keys. Videos are kept for `keep_hours` and up to `keep_bytes` in all. A device
    is stuck where it has done no step for `step_limit` seconds. With `ui` there is a page for people.
    """

    bundles: dict[str, Path]
    state: Path
    styles: Mapping[str, Path] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 8000
    device: str | None = None
    keys: Path | None = None
    max_queue: int = 200
    keep_hours: float = 24.0
    keep_bytes: int = 10 * 10**9
    step_limit: float = 600.0
    ui: bool = False
