"""Checkpoints of the Hugging Face hub, through huggingface_hub: its cache, its tokens, its offline mode."""

from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock
from typing import Any

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import read_json
from mochi_aot.compiler.checkpoint.wanted import Wanted
from mochi_aot.compiler.checkpoint.weight_sets import ReadJson
from mochi_aot.compiler.hub.cache import snapshot_of
from mochi_aot.compiler.hub.errors import HubError
from mochi_aot.compiler.hub.files import HubFiles
from mochi_aot.compiler.hub.logs import handed_on
from mochi_aot.compiler.job import Progress

Choose = Callable[[Collection[str], ReadJson], list[str]]  # given all names, and how to read the JSON in one of them

_LOGIN = "log in with hf auth login, or set HF_TOKEN"
_SERVER_ERROR = 500


def fetch(repository: str, revision: str | None, wanted: Wanted, progress: Progress) -> Path:
    """Return the folder in the hub's cache that holds what is wanted of a repository: see fetch_chosen."""
    return fetch_chosen(
        repository, revision, lambda names, read: HubFiles(repository, names, read).needed(wanted), progress
    )


def fetch_chosen(repository: str, revision: str | None, choose: Choose, progress: Progress) -> Path:
    """Return the folder in the hub's cache that holds what `choose` chooses of a repository's files, fetched where it
    was not there.

    Where the hub is out of reach, or not to be asked, the folder is what earlier fetches have left. Raise
    CheckpointError.
    """
    from huggingface_hub.utils import logging as _  # noqa: F401  which sets up its logger

    with handed_on():
        return _fetched(repository, revision, choose, progress)


def _fetched(repository: str, revision: str | None, choose: Choose, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download

    progress.phase(f"looking up {repository} on the hub")
    try:
        names = _names(repository, revision)
    except HubError as error:
        return _left(repository, revision, error, progress)
    needed = choose(names, lambda name: _read(repository, revision, name))
    progress.phase(f"fetching {repository}")
    bars = _bars(progress)
    return Path(
        _asked(
            repository,
            revision,
            lambda: snapshot_download(repository, revision=revision, allow_patterns=needed, tqdm_class=bars),
        )
    )


def fetch_file(repository: str, revision: str | None, choose: Callable[[list[str] | None], str]) -> Path:
    """Return one file of a repository in the hub's cache, fetched where it was not there.

    `choose` names it, given all names, or None where the hub cannot or may not be asked. Raise CheckpointError.
    """
    from huggingface_hub import hf_hub_download

    names: list[str] | None
    try:
        names = _names(repository, revision)
    except HubError:
        names = None
    chosen = choose(names)
    return Path(_asked(repository, revision, lambda: hf_hub_download(repository, chosen, revision=revision)))


def _names(repository: str, revision: str | None) -> list[str]:
    """Return the names of all files of a revision."""
    from huggingface_hub import HfApi

    info = _asked(repository, revision, lambda: HfApi().model_info(repository, revision=revision))
    return [file.rfilename for file in info.siblings or []]


def _read(repository: str, revision: str | None, name: str) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download

    return read_json(Path(_asked(repository, revision, lambda: hf_hub_download(repository, name, revision=revision))))


def _left(repository: str, revision: str | None, error: HubError, progress: Progress) -> Path:
    """Return what the cache has of a repository. Raise the `error` that was in the way if it has nothing of it."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    if not cache.is_dir():
        raise error
    progress.note(f"{error}; {cache} is used")
    return snapshot_of(cache, revision)


def _asked[Answer](repository: str, revision: str | None, ask: Callable[[], Answer]) -> Answer:
    """Return what `ask` does; raise what huggingface_hub raises as CheckpointError, or as HubError where trying again
    may help."""
    import httpx2
    from huggingface_hub.errors import HFValidationError

    try:
        return ask()
    except (HFValidationError, OSError, httpx2.HTTPError) as error:
        problem = _problem(error, repository, revision)
    raise problem  # outside, so that it has no context: an OSError there would make a failure of the system of it


def _problem(error: Exception, repository: str, revision: str | None) -> CheckpointError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        page = f"https://huggingface.co/{repository}"
        return CheckpointError(f"{repository} is gated: accept its licence at {page}, then {_LOGIN}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointError(
            f"{repository} is neither a path of this machine nor a repository of the hub; if it is private, {_LOGIN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"{repository} has no revision {revision}")
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) and error.response else None
    if isinstance(error, errors.HFValidationError) or (status is not None and status < _SERVER_ERROR):
        return CheckpointError(f"{repository} cannot be had from the hub ({reason})")
    return HubError(f"{repository} is no path of this machine, and the hub cannot be reached ({reason})")


class _Nowhere:
    """A file that takes everything."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass


def _bars(progress: Progress) -> type:
    """Return a class of progress bars that tells `progress` of bytes that have come, and draws nothing."""
    from tqdm import tqdm

    lock = Lock()

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of two bars in bytes one counts those of finished and unfinished files, the other what the network took.
            self._counts = kwargs.get("unit") == "B" and "econstruct" in str(kwargs.get("desc"))
            super().__init__(*args, **{**kwargs, "file": _Nowhere(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            with lock:
                drawn: bool | None = super().update(n)
                if self._counts:
                    progress.fetched(int(self.n), int(self.total or self.n))
            return drawn

    return Bar
