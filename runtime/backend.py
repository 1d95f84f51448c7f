"""What a backend must do. It knows devices and numbers; which programs run, and when, is the pipeline's business."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Program, TensorSpec

# A tensor on all devices of a mesh: opaque to the caller, and never changed once it is made.
Value = Any

# Called with the name of a weight before its bytes are touched; returns when they are there.
Wait = Callable[[str], None]


# Called with an instruction's index and its results, before any of them is freed.
Watch = Callable[[int, list[Value]], None]


def no_wait(name: str) -> None:
    """Return at once: weights are read when they are touched."""


@dataclass(frozen=True)
class KernelUse:
    """Kernels that were `found` where they had been built ahead of time, and those that had to be `built`."""

    found: int
    built: int


@runtime_checkable
class Planner(Protocol):
    """What reads weights ahead: a WeightReader, and a backend whose other processes have readers of their own."""

    def plan(self, names: Iterable[str]) -> None:
        """Read these weights, unless they are planned already, after those that are."""


class Executable(Protocol):
    """A program that is ready to run."""

    def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> dict[str, Value]:
        """Return outputs by name. `inputs` may hold more than the program reads. BackendError names the failing op.

        `watch` is called after each instruction; what it raises ends the run.
        """


class Backend(Protocol):
    """A mesh of devices that hold weights and values. All errors are BackendError, but for those of the bundle."""

    on_host: bool  # values are in the host's memory, where looking at them costs little

    def load_weights(self, bundle: Bundle, names: Iterable[str], wait: Wait = no_wait) -> None:
        """Put these weights of the bundle on the devices, each after `wait(name)`; it may be as late as at its use."""

    def free_weights(self, names: Iterable[str]) -> None:
        """Forget these weights; names that are not loaded are ignored."""

    def memory_bytes(self) -> int | None:
        """Return the bytes of a device's memory; None where it is not the devices' alone."""

    def load_program(self, program: Program) -> Executable:
        """Resolve a program's instructions once. Its weights may be loaded later, but before it runs."""

    def upload(self, array: np.ndarray, spec: TensorSpec) -> Value:
        """Copy a whole array of spec.shape and held_dtype(spec.dtype) to the devices, as spec.placements say."""

    def fetch(self, value: Value, spec: TensorSpec) -> np.ndarray:
        """Undo upload: return a new array of spec.shape, without padding."""

    def nonfinite(self, value: Value) -> list[str]:
        """Return which of "NaN", "inf" and "-inf" are in a value, on any device; none are in one of whole numbers."""

    def close(self) -> None:
        """Let go of the devices, and of all that is on them; the backend is of no use any more."""

    def kernel_use(self) -> KernelUse | None:
        """Return what became of kernels since the last call; None for a backend that does not know or has none."""
