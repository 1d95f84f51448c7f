"""Where the processes of a run first meet: torchrun's store, or the one that rank 0 opens for `--launch`."""

import warnings
from datetime import timedelta

# Where torch.distributed has its stores from: that module does not export them to type checkers.
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.world import World

SECONDS = 600.0  # until all have come: hosts may start at different times, and import torch from a slow disk


def meet(world: World) -> Store:
    """Return the store that all processes of the run share. Raise BackendError if it cannot be reached."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store, _, _ = next(iter(rendezvous("env://", world.rank, world.size, timeout=timedelta(seconds=SECONDS))))
    except (RuntimeError, ValueError, OSError) as error:
        raise BackendError(f"rank {world.rank} finds no meeting point: {str(error).partition(chr(10))[0]}") from error
    return PrefixStore("mochi", store)
