"""A video and its record, which appear together, and outputs that one process at a time writes.

The record names the video's SHA-256: a pair that does not belong together, whatever has copied it, is seen. While the
new pair is put in place there may be a video without a record, never one with another's.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mochi_aot.artifacts.atomic_file import folder_beside, sync
from mochi_aot.artifacts.errors import about
from mochi_aot.artifacts.held_folder import HeldFolder, hold
from mochi_aot.artifacts.renaming import rename_new
from mochi_aot.runtime.errors import OutputExistsError, OutputFolderError
from mochi_aot.runtime.job import Job, outputs


@dataclass
class Finished:
    """Where to write the video, and what its record is to say beside the video's own hash and size."""

    video: Path
    record: Mapping[str, object] = field(default_factory=dict)


@contextmanager
def finishing(video: Path, record: Path, force: bool) -> Iterator[Finished]:
    """Yield where to write a video; at the end of the block it takes its place, with the record beside it.

    After any exception nothing is left, and what was there is as it was. Raise OutputExistsError where one of them has
    appeared meanwhile, unless `force`, and OSError.
    """
    with about(video), folder_beside(video) as folder:
        made, note = Finished(folder / video.name), folder / record.name
        yield made
        sync(made.video)
        with made.video.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        described = {"sha256": digest, "bytes": made.video.stat().st_size}
        note.write_text(json.dumps({**made.record, "video": described}, indent=2) + "\n", encoding="utf-8")
        sync(note)
        if force:
            record.unlink(missing_ok=True)  # first: it is of the video that goes
            sync(video.parent)
            os.replace(made.video, video)
            os.replace(note, record)
        else:
            _place_new(made.video, video)
            try:
                _place_new(note, record)
            except BaseException:
                video.unlink()
                raise
        sync(video.parent)


@contextmanager
def held_outputs(job: Job, force: bool) -> Iterator[None]:
    """Keep a job's outputs for this process to write meanwhile.

    Raise OutputExistsError where another process writes one of them, or one exists and `force` is not given, and
    OutputFolderError where that cannot be told.
    """
    with ExitStack() as held:
        for path in outputs(job):
            if str(path) != job.output:  # the record stands for its video
                held.callback(_hold(path).release)
            if not force and os.path.lexists(path):
                raise _exists(path)
        yield


def _hold(path: Path) -> HeldFolder:
    try:
        return hold(path.parent / f".{path.name}.partial-{os.geteuid()}")
    except BlockingIOError:
        raise OutputExistsError(
            f"the output {path} is being written by another process; wait for its end, or give another name"
        ) from None
    except OSError as error:
        where = error.filename if error.errno == errno.EPERM else path.parent
        raise OutputFolderError(f"the output {path} cannot be written: {where}: {error.strerror}") from error


def _place_new(source: Path, target: Path) -> None:
    try:
        rename_new(source, target)
    except FileExistsError:
        raise _exists(target) from None


def _exists(path: Path) -> OutputExistsError:
    return OutputExistsError(f"the output {path} exists; give another name, or --force to replace it")
