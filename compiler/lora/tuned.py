"""A checkpoint to which LoRAs are added as it is read: beneath every target, mesh and dtype."""

import threading
from collections.abc import Iterable, Sequence
from math import prod

import torch

from mochi_aot.artifacts.integrity import new_hash
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.checkpoint.finite import check_finite
from mochi_aot.compiler.checkpoint.identity import identity
from mochi_aot.compiler.checkpoint.naming import Shape
from mochi_aot.compiler.lora.lora import Change, Lora

_SUM_DTYPES = torch.float64, torch.float32


class TunedCheckpoint:
    """A checkpoint whose matrices have LoRAs' products added, in float32, each time rows of them are read.

    What a LoRA does not touch is read, and told by its fingerprint, as of the checkpoint itself.
    """

    def __init__(self, base: Checkpoint, loras: Sequence[Lora], check_weights: bool = True) -> None:
        """With `check_weights` sums must be finite."""
        self.base, self._check_weights = base, check_weights
        self._changes = changes_of(loras)
        self._scratch = _Scratch()
        self._digests = {name: _digest(changes) for name, changes in self._changes.items()}
        self.layout, self.config, self.notes, self.notices = base.layout, base.config, base.notes, base.notices
        self.files = [lora.path for lora in loras]
        self.origin = {**base.origin, "lora": said_of(loras)}

    def names(self) -> tuple[str, ...]:
        """Return every canonical name."""
        return self.base.names()

    def shape(self, name: str) -> Shape:
        """Return the shape of parameter `name`."""
        return self.base.shape(name)

    def dtype(self, name: str) -> str:
        """Return the dtype in which parameter `name` is read."""
        return "float32" if name in self._changes else self.base.dtype(name)

    def changes(self, name: str) -> Sequence[Change]:
        """Return what is added to parameter `name`."""
        return self._changes.get(name, ())

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        """Return the parameter `name`, or the part of it that `index` selects; float32 where a LoRA touches it.

        Raise what Checkpoint.read raises, and WeightError for a sum that is not finite.
        """
        rows = self.base.read(name, index)
        changes = self._changes.get(name)
        if not changes:
            return rows
        start, stop, _ = (index[0] if index else slice(None)).indices(self.shape(name)[0])
        added = self._added(name, changes, start, stop)[:, *index[1:]]
        merged = rows.float().add_(added.reshape(rows.shape))
        if self._check_weights:
            check_finite(merged, start, f"with its LoRA, {name}")
        return merged

    def fingerprint(self, name: str) -> str:
        """Return what parameter `name` is: see Checkpoint.fingerprint. Factors and strengths are in it."""
        known = self.base.fingerprint(name)
        return f"{known} + {self._digests[name]}" if name in self._digests else known

    def identity(self) -> str:
        """Return a hash of the whole model with its LoRAs: see Checkpoint.identity."""
        plain = self.base.identity()
        if not self._changes:
            return plain
        return identity(self.config, {name: self.fingerprint(name) for name in self.names()})

    def tokenizer_json(self) -> bytes:
        """Return the tokenizer: see Checkpoint.tokenizer_json."""
        return self.base.tokenizer_json()

    def _added(self, name: str, changes: Iterable[Change], start: int, stop: int) -> torch.Tensor:
        """Return rows of the products' sum: float32 [stop - start, ...], in memory that this thread's next call uses.

        Computed in float64: which rows are asked for together, and which processor multiplies, then make no difference
        to the float32 that comes out, but for one number in many millions.
        """
        shape = self.shape(name)
        total, rounded = (self._scratch.matrix(dtype, stop - start, prod(shape[1:])) for dtype in _SUM_DTYPES)
        for index, change in enumerate(changes):
            torch.addmm(total, *_factors(change, start, stop), beta=float(index > 0), out=total)
        return rounded.copy_(total).reshape(stop - start, *shape[1:])


class _Scratch(threading.local):
    """Memory of a thread for sums: fresh pages for them would take most of the time."""

    def __init__(self) -> None:
        self._memory: dict[torch.dtype, torch.Tensor] = {}

    def matrix(self, dtype: torch.dtype, rows: int, columns: int) -> torch.Tensor:
        """Return a matrix with anything in it."""
        memory = self._memory.get(dtype)
        if memory is None or memory.numel() < rows * columns:
            memory = self._memory[dtype] = torch.zeros(rows * columns, dtype=dtype)
        return memory[: rows * columns].view(rows, columns)


def _factors(change: Change, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of rows of what one LoRA adds to a parameter: float64. The scale goes to the smaller one."""
    factors, first = change.factors, change.first + start
    return factors.up[first : first + stop - start].double() * factors.scale, factors.down.double()


def changes_of(loras: Iterable[Lora]) -> dict[str, list[Change]]:
    """Return what LoRAs add to each parameter that they change, in their order."""
    found: dict[str, list[Change]] = {}
    for lora in loras:
        for name, change in lora.changes.items():
            if change.factors.scale != 0.0:  # at strength 0 nothing is changed, the reuse of weights included
                found.setdefault(name, []).append(change)
    return found


def said_of(loras: Iterable[Lora]) -> str:
    """Return which LoRAs these are and their strengths, for people, in the one line that a manifest takes."""

    def said(lora: Lora) -> str:
        name = "".join(letter if letter.isprintable() else "?" for letter in lora.path.name)
        return f"{name}:{lora.strength:g}"

    return ", ".join(map(said, loras))


def _digest(changes: Iterable[Change]) -> str:
    """Return a hash of what is added to a parameter, every number of it."""
    digest = new_hash()
    for change in changes:
        factors = change.factors
        rows = factors.up[change.first : change.first + change.count]
        for matrix in (rows, factors.down):
            digest.update(f"{matrix.dtype} {list(matrix.shape)} ".encode())
            digest.update(matrix.contiguous().view(torch.uint8).numpy())
        digest.update(f"{factors.scale!r}\n".encode())
    return digest.hexdigest()
