"""Programs that compiles of this user have made, kept so that a bundle with another LoRA need no trace of the model.

They are kept as text, without their constants' numbers, which may be hundreds of megabytes. So a compile can use them
that takes its constants over from a bundle; any other makes them again.
"""

import functools
import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
import torch

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.versions import versions
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.text import constants_of, to_text
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.lower.weights import KnownSource
from mochi_aot.compiler.lowered import Compiled, CompiledPrograms
from mochi_aot.compiler.partition.cost import cost_of
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry

MOST_ENTRIES = 32  # of about a megabyte for each geometry of the full model
FOLDERS = ("artifacts", "compiler")  # of this package, whose code makes programs
PACKAGES = ("numpy", "torch", "transformers", "ttnn")  # whose code does


@dataclass(eq=False)
class NotedSource:
    """Hands on a checkpoint's tensors, and notes which were read."""

    source: KnownSource
    read_names: set[str] = field(default_factory=set)

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        """Return what the checkpoint has under this name."""
        self.read_names.add(name)
        return self.source.read(name, index)


class KeptPrograms:
    """A file for each model, job and state of the code, in `folder`, which may be removed at any time."""

    def __init__(self, folder: Path, config: MochiConfig, job: Job) -> None:
        self._folder = folder
        self._place = folder / f"{_key(config, job)}.json"

    def find(self, source: KnownSource) -> CompiledPrograms | None:
        """Return the programs for a checkpoint, verified, whose constants stand for their shapes alone; None if none
        are kept, or those of a checkpoint with other numbers where programs hold some."""
        try:
            digest, _, data = self._place.read_bytes().partition(b"\n")
            if hash_bytes(data).encode() != digest:
                return None
            kept = json.loads(data)
            if kept["folded"] != _fingerprints(source, kept["folded"]):
                return None
            constants = {key: _shape_alone(*described) for key, described in kept["constants"].items()}
            found: dict[Geometry, dict[str, Compiled]] = {}
            for size, role, plan, text in kept["programs"]:
                program = parse(text, constants)
                verify(program)
                found.setdefault(Geometry(*size), {})[role] = Compiled(program, plan, cost_of(program))
        except (OSError, ValueError, KeyError, TypeError, IRError):
            return None
        with suppress(OSError):
            self._place.touch()  # the oldest go first
        return found

    def keep(self, programs: CompiledPrograms, source: NotedSource) -> None:
        """Keep the programs that were made of a checkpoint. Where nothing can be written, nothing will be found."""
        listed = [(g, role, made) for g, by_role in programs.items() for role, made in by_role.items()]
        arrays = {key: array for *_, made in listed for key, array in constants_of(made.program).items()}
        kept = {
            "folded": _fingerprints(source.source, source.read_names),
            "constants": {key: [array.dtype.str, list(array.shape)] for key, array in arrays.items()},
            "programs": [[astuple(g), role, made.plan, to_text(made.program)] for g, role, made in listed],
        }
        data = json.dumps(kept).encode()
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._place) as new:
                new.write_bytes(hash_bytes(data).encode() + b"\n" + data)
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        entries = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in entries[MOST_ENTRIES:]:
            path.unlink(missing_ok=True)


def _key(config: MochiConfig, job: Job) -> str:
    lines = [repr(config), repr(job), repr(versions(PACKAGES)), _code_digest()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@functools.cache
def _code_digest() -> str:
    """Return a hash of the code that makes programs."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _fingerprints(source: KnownSource, names: Iterable[str]) -> dict[str, str]:
    """Return what a checkpoint has under these names."""
    return {name: source.fingerprint(name) for name in sorted(names)}


def _shape_alone(dtype: str, shape: list[int]) -> np.ndarray:
    """Return an array of that shape which takes no memory, for programs are verified against shapes."""
    return np.broadcast_to(np.zeros((), np.dtype(dtype)), shape)
