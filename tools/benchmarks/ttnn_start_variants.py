"""The variants of `mochi-bench ttnn-start`, each run alone in a fresh process.

Arguments: the variant, the folder of the bundle, and that of the checkpoint.
"""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mochi_aot.runtime.ledger import Ledger
from mochi_aot.tools.benchmarks.variants import print_outcome

if TYPE_CHECKING:
    from mochi_aot.runtime.backend import Executable

_ROLE = "encode_text"


class _Dispatched(Exception):  # noqa: N818 - not an error
    """The first op has been dispatched: nothing after it counts."""


def bundle(folder: Path, checkpoint: Path, ledger: Ledger) -> dict[str, Any]:
    """Open a bundle on a mocked mesh by the runtime: map, load the text encoder's tensors, dispatch its first op."""
    with ledger.span("imports"):
        import numpy as np

        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.runtime.pipeline import read_ahead
        from mochi_aot.runtime.targets import open_backend
        from mochi_aot.runtime.weight_reader import WeightReader

    with ledger.span("open the bundle"):
        opened = Bundle.open(folder)
        reader, geometry = WeightReader(opened, ledger), opened.manifest.geometries[0]
        read_ahead(reader, opened, [_ROLE], geometry)
    with ledger.span("open the device"):
        backend = open_backend(opened, "mock")
    program = opened.program(_ROLE, geometry)
    with ledger.span("load weights"):
        backend.load_weights(opened, [weight.name for weight in program.weights], reader.wait)
    with ledger.span("first op"):
        inputs = {item.name: backend.upload(np.zeros(item.spec.shape, np.int32), item.spec) for item in program.inputs}
        _until_dispatched(backend.load_program(program), inputs)
    return {}


def from_torch(folder: Path, checkpoint: Path, ledger: Ledger) -> dict[str, Any]:
    """Load the same text encoder from its checkpoint: ttnn.from_torch lays out each tensor, a replica on each chip."""
    with ledger.span("imports"):
        from safetensors import safe_open

        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.runtime.targets import open_backend

    with ledger.span("open the device"):
        backend: Any = open_backend(Bundle.open(folder), "mock")
        import torch
        import ttnn

    mesh, kept = backend.mesh, {}
    layout: dict[str, Any] = {"dtype": ttnn.bfloat16, "layout": ttnn.TILE_LAYOUT, "device": mesh}
    with ledger.span("load weights"):
        for path in sorted((checkpoint / "text_encoder").glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    everywhere = ttnn.ReplicateTensorToMesh(mesh)
                    kept[name] = ttnn.from_torch(file.get_tensor(name), mesh_mapper=everywhere, **layout)
    with ledger.span("first op"):
        ids = ttnn.from_torch(torch.zeros(1, 256, dtype=torch.int32), dtype=ttnn.uint32, device=mesh)
        ttnn.embedding(ids, kept["shared.weight"])
    return {}


def import_torch(folder: Path, checkpoint: Path, ledger: Ledger) -> dict[str, Any]:
    """Import torch, and nothing else."""
    import torch

    return {"version": torch.__version__}


def _until_dispatched(executable: "Executable", inputs: dict[str, Any]) -> None:
    def stop(index: int, results: list[Any]) -> None:
        raise _Dispatched

    with contextlib.suppress(_Dispatched):
        executable.run(inputs, stop)


if __name__ == "__main__":
    print_outcome((bundle, from_torch, import_torch), sys.argv[1:])
