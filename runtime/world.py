"""One process among those of a distributed run. torchrun, and `mochi-run --launch`, say by the environment which."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mochi_aot.runtime.errors import BackendError


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`, each of which is one device of the mesh; `local_rank` counts those of this host."""

    rank: int
    size: int
    local_rank: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "World | None":
        """Return what torchrun's variables say, or None where they are not set, or say that this process is alone.

        Raise BackendError for variables that are not what torchrun sets.
        """
        if "RANK" not in environ or environ.get("WORLD_SIZE", "1") == "1":
            return None
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        seen = ", ".join(f"{name}={environ[name]}" if name in environ else f"no {name}" for name in names)
        problem = f"the environment has {seen}; start with torchrun or --launch, which set all of them, or unset RANK"
        try:
            rank, size, local_rank, _ = (int(environ[name]) for name in names if name != "MASTER_ADDR")
        except (KeyError, ValueError):
            raise BackendError(problem) from None
        if not (0 <= local_rank <= rank < size) or "MASTER_ADDR" not in environ:
            raise BackendError(problem)
        return cls(rank, size, local_rank)

    def check_mesh(self, rows: int, columns: int) -> None:
        """Raise BackendError unless there is a process for each device."""
        if rows * columns != self.size:
            raise BackendError(
                f"the bundle's mesh is {rows}x{columns}, but {self.size} processes were started; start "
                f"{rows * columns}, one for each device"
            )
