"""The Backend of a distributed run: rank 0 does what a Backend does on its own device, and tells the others to.

So the pipeline, sweeps and everything above them run in one process, and know of one backend.
"""

import itertools
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Program, TensorSpec
from mochi_aot.runtime.backend import Executable, Value, Wait, Watch, no_wait
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.backend import check_array
from mochi_aot.runtime.torch.distributed.axis import LostError
from mochi_aot.runtime.torch.distributed.crew import Crew
from mochi_aot.runtime.torch.distributed.links import invite
from mochi_aot.runtime.torch.distributed.rank import RankBackend
from mochi_aot.runtime.torch.distributed.rendezvous import SECONDS, meet
from mochi_aot.runtime.torch.distributed.specs import spec_numbers
from mochi_aot.runtime.world import World

_met = False  # whether this process has met the others


def dismiss_all(world: World) -> None:
    """Meet the other processes, if nobody has, and have them end."""
    global _met
    if not _met:
        _met = True
        with suppress(BackendError):
            Crew(invite(meet(world), os.environ["MASTER_ADDR"], world.size, SECONDS)).close()


class Held:
    """A value on all processes: `own` is the leader's part, `number` the name that the others know it by."""

    def __init__(self, own: Value, number: int) -> None:
        self.own, self.number = own, number


class Seen(list[str]):
    """What was found of a result in a program that is being watched, in the place of its value."""


class LeaderBackend:
    """Rank 0 of a mesh of processes. Once another process has failed, every method raises RankError."""

    def __init__(self, bundle: Bundle, world: World, device: str) -> None:
        """Meet the other processes, and form groups with them.

        Raise BackendError if they do not come, or have another bundle, and RankError if one of them fails.
        """
        global _met
        rows, columns = bundle.manifest.mesh
        world.check_mesh(rows, columns)
        _met = True
        store = meet(world)
        self._bundle = bundle
        self._crew = Crew(invite(store, os.environ["MASTER_ADDR"], world.size, SECONDS))
        self._numbers = itertools.count()
        self._dropped: deque[int] = deque()
        try:
            self._check_bundles()
            self._crew.tell({"do": "form"})
            with self._reaching():
                self._own = RankBackend(world, store, bundle.manifest.mesh, device)
        except BaseException:
            self._crew.close()
            raise
        self.on_host = self._own.on_host

    def plan(self, names: Iterable[str]) -> None:
        """Have the other processes read their parts of these weights, in this order, ahead of the programs."""
        self._tell("plan", names=list(names))

    def load_weights(self, bundle: Bundle, names: Iterable[str], wait: Wait = no_wait) -> None:
        """Make weights known to the processes; each reads its own parts. Raise BackendError for a missing one."""
        names = list(names)
        self._own.load_weights(bundle, names, wait)
        self._tell("load_weights", names=names)

    def free_weights(self, names: Iterable[str]) -> None:
        """Forget these weights, everywhere."""
        names = list(names)
        self._own.free_weights(names)
        self._tell("free_weights", names=names)

    def memory_bytes(self) -> None:
        """Return None: see TorchBackend."""

    def load_program(self, program: Program) -> "LeaderExecutable":
        """Resolve a program everywhere. Raise BackendError for one that is not of the bundle, or not known."""
        for index, geometry in enumerate(self._bundle.manifest.geometries):
            for role in geometry.programs:
                if self._bundle.program(role, geometry) == program:
                    number = next(self._numbers)
                    own = self._own.load_program(program)
                    self._tell("load_program", role=role, geometry=index, number=number)
                    return LeaderExecutable(self, program, own, number)
        raise BackendError(f"program {program.name!r} is not one of {self._bundle.path}")

    def upload(self, array: np.ndarray, spec: TensorSpec) -> Held:
        """Give each process its piece of an array. Raise BackendError if it is not what `spec` says."""
        check_array(array, spec)
        number = self._tell("share", spec=spec_numbers(spec), result=next(self._numbers))["result"]
        with self._reaching():
            return self._held(self._own.share(array, spec), number)

    def fetch(self, value: Held, spec: TensorSpec) -> np.ndarray:
        """Return a new array [*spec.shape], bfloat16 as float32, made of the processes' pieces."""
        self._own.check_value(value.own, spec)
        self._tell("collect", value=value.number, spec=spec_numbers(spec))
        with self._reaching():
            array = self._own.collect(value.own, spec)
        assert array is not None, "this is the leader"
        return array

    def nonfinite(self, value: Held | Seen) -> list[str]:
        """Return which of "NaN", "inf" and "-inf" are in a value, on any process."""
        if isinstance(value, Seen):
            return value
        self._tell("kinds", value=value.number)
        with self._reaching():
            return self._own.kinds([value.own])[0]

    def close(self) -> None:
        """Have the other processes end, and forget everything."""
        self._crew.close()
        self._own.close()

    def kernel_use(self) -> None:
        """Return None: torch builds no kernels."""

    def run(
        self, program: Program, own: Executable, number: int, inputs: Mapping[str, Held], watch: Watch | None
    ) -> dict[str, Held]:
        """Run a program everywhere; see LeaderExecutable."""
        names = [source.name for source in program.inputs if source.name in inputs]
        results = {output.name: next(self._numbers) for output in program.outputs}
        known = {name: inputs[name].number for name in names}
        self._tell("run", program=number, inputs=known, results=results, watched=watch is not None)
        values = {name: inputs[name].own for name in names}
        with self._reaching():
            if watch is None:
                made = own.run(values)
            else:
                made = self._own.run_watched(own, values, lambda index, kinds: watch(index, [*map(Seen, kinds)]))
        return {name: self._held(value, results[name]) for name, value in made.items()}

    def _check_bundles(self) -> None:
        for rank, ready in sorted(self._crew.wait_until_ready(SECONDS).items()):
            if ready["bundle"] != self._bundle.id:
                raise BackendError(
                    f"rank {rank} ({ready['host']}) has the bundle {ready['bundle']}, rank 0 {self._bundle.id}; give "
                    "all hosts the same"
                )

    def _tell(self, what: str, **details: Any) -> dict[str, Any]:
        gone = [self._dropped.popleft() for _ in range(len(self._dropped))]
        self._crew.tell({"do": what, "drop": gone, **details})
        return details

    def _held(self, own: Value, number: int) -> Held:
        held = Held(own, number)
        weakref.finalize(held, self._dropped.append, number).atexit = False
        return held

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Make RankErrors of what fails because another process has."""
        try:
            yield
        except (LostError, BackendError) as error:
            if isinstance(error, LostError) or isinstance(error.__cause__, LostError):
                raise self._crew.failure() from error
            raise


class LeaderExecutable:
    """A program that is ready to run, on all processes."""

    def __init__(self, backend: LeaderBackend, program: Program, own: Executable, number: int) -> None:
        self._backend, self._program, self._own, self._number = backend, program, own, number

    def run(self, inputs: Mapping[str, Held], watch: Watch | None = None) -> dict[str, Held]:
        """Return outputs by name. `watch` gets Seen in the place of values. Raise BackendError, RankError."""
        return self._backend.run(self._program, self._own, self._number, inputs, watch)
