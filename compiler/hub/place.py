"""Where a checkpoint is on this machine, once it is there."""

from pathlib import Path

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.wanted import Wanted
from mochi_aot.compiler.hub.cache import is_cache, snapshot_of
from mochi_aot.compiler.hub.fetch import fetch
from mochi_aot.compiler.hub.names import is_hub_id
from mochi_aot.compiler.job import Progress


def local_checkpoint(checkpoint: str | None, revision: str | None, wanted: Wanted, progress: Progress) -> Path | None:
    """Return the path of a checkpoint: of a repository on the hub once it was fetched, of a folder that the hub's cache
    has for one that of a revision, and any other path as it is.

    Raise CheckpointError, also for a `revision` of what has none.
    """
    if checkpoint is not None and is_hub_id(checkpoint):
        return fetch(checkpoint, revision, wanted, progress)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and is_cache(path):
        return snapshot_of(path, revision)
    if revision is not None:
        raise CheckpointError(
            f"{path or 'no checkpoint'} has no revisions: --revision is for repositories of the hub, and for its cache"
        )
    return path
