"""The folder that the cache of huggingface_hub has for a repository: snapshots of commits, and branches and tags.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from pathlib import Path

from mochi_aot.compiler.checkpoint.errors import CheckpointError

MAIN = "main"


def snapshot_of(cache: Path, revision: str | None) -> Path:
    """Return the folder of a revision in the folder that the hub's cache has for a repository: of a branch or tag, or
    of a commit or how it begins. Raise CheckpointError."""
    snapshots = cache / "snapshots"
    commits = sorted(path.name for path in snapshots.iterdir()) if snapshots.is_dir() else []
    reference = cache / "refs" / (revision or MAIN)
    found = [reference.read_text().strip()] if reference.is_file() else []
    if not found and revision is not None:
        found = [commit for commit in commits if commit.startswith(revision)]
    elif not found:
        found = commits
    found = [commit for commit in found if commit in commits]
    if len(found) == 1:
        return snapshots / found[0]
    seen = ", ".join(commits) or "nothing"
    asked = "the main branch" if revision is None else f"revision {revision}"
    raise CheckpointError(f"{cache} does not tell which commit is {asked}, it holds {seen}: name one with --revision")


def is_cache(folder: Path) -> bool:
    """Return whether a folder is one that the hub's cache has for a repository."""
    return folder.name.startswith("models--") and (folder / "snapshots").is_dir()
