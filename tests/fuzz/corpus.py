"""The files in corpus/KIND: each of them once broke something, or is a good file that fuzzing starts from.

Manifests, programs and deltas lie there as JSON of their fields, so that they stay readable and outlive a format
version.
"""

import json
from pathlib import Path

from tests.fuzz.forms import Form
from tests.fuzz.subjects import SUBJECTS

FOLDER = Path(__file__).parent / "corpus"
_AS_FIELDS = ("manifest", "program", "delta")


def corpus(kind: str) -> dict[str, bytes]:
    """Return the kept files of a kind by name, as they would lie on a disk."""
    form = SUBJECTS[kind].form
    paths = sorted((FOLDER / kind).glob("*"))
    return {path.name: _file(kind, form, path.read_bytes()) for path in paths}


def _file(kind: str, form: Form, kept: bytes) -> bytes:
    return form.build(json.loads(kept)) if kind in _AS_FIELDS else kept


def keep(kind: str, name: str, data: bytes) -> Path:
    """Write a file of a kind to the corpus, and return where."""
    folder = FOLDER / kind
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(json.dumps(SUBJECTS[kind].form.parse(data)).encode() if kind in _AS_FIELDS else data)
    return path
