"""Checkpoints of the Hugging Face hub, through huggingface_hub: its cache, its tokens, its offline mode."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import read_json
from mochi_aot.compiler.checkpoint.wanted import Wanted
from mochi_aot.compiler.hub.cache import snapshot_of
from mochi_aot.compiler.hub.files import HubFiles
from mochi_aot.compiler.job import Progress

_LOGIN = "log in with hf auth login, or set HF_TOKEN"


def fetch(repository: str, revision: str | None, wanted: Wanted, progress: Progress) -> Path:
    """Return the folder in the hub's cache that holds what is wanted of a repository, fetched where it was not there.

    Where the hub is out of reach, or not to be asked, the folder is what earlier fetches have left. Raise
    CheckpointError.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    progress.phase(f"looking up {repository} on the hub")
    with _hub_errors(repository, revision):
        names = _names(repository, revision)
        if names is None:
            cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
            progress.note(f"{repository}: the hub is not asked, or not reached, and the cache in {cache} is used")
            return snapshot_of(cache, revision)
        needed = HubFiles(repository, names, lambda name: _read(repository, revision, name)).needed(wanted)
        progress.phase(f"fetching {repository}")
        bar = _bar_for(progress)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=needed, tqdm_class=bar))


def _names(repository: str, revision: str | None) -> list[str] | None:
    """Return the names of all files, or None if the hub cannot or may not be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return [file.rfilename for file in HfApi().model_info(repository, revision=revision).siblings or []]
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code < _SERVER_ERROR:
            raise
        return None
    except (OSError, *_connection_errors()):
        return None


def _read(repository: str, revision: str | None, name: str) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download

    return read_json(Path(hf_hub_download(repository, name, revision=revision)))


_SERVER_ERROR = 500


def _connection_errors() -> tuple[type[Exception], ...]:
    import httpx2

    return (httpx2.TransportError,)


@contextmanager
def _hub_errors(repository: str, revision: str | None) -> Iterator[None]:
    """Raise what huggingface_hub raises as CheckpointError."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated: accept its licence at https://huggingface.co/{repository}, then {_LOGIN}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repository} is neither a path of this machine nor a repository of the hub; if it is private, {_LOGIN}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{repository} has no revision {revision}") from error
    except (errors.HFValidationError, OSError, *_connection_errors()) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{repository} cannot be fetched ({reason}): try again, what has come is kept") from error


def _bar_for(progress: Progress) -> type:
    """Return a class of progress bars that tells `progress` instead of drawing, about bytes that have come."""
    from tqdm import tqdm

    lock = threading.Lock()

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = kwargs.get("unit") == "B" and "econstruct" in str(kwargs.get("desc"))
            super().__init__(*args, **{**kwargs, "file": open(os.devnull, "w"), "disable": False})  # noqa: SIM115

        def update(self, n: float | None = 1) -> bool | None:
            with lock:
                drawn = super().update(n)
                if self._counts:
                    progress.fetched(int(self.n), int(self.total or self.n))
            return drawn

    return Bar
