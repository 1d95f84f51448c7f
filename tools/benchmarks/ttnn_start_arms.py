"""The contenders of `mochi-bench ttnn-start`, each run alone in a fresh process.

Arguments: the contender, the folder of the bundle, and that of the checkpoint. Each prints a
JSON object with `seconds` since the process started and what it spent them on.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mochi_aot.runtime.ledger import Ledger

_ROLE = "encode_text"


class _Dispatched(Exception):  # noqa: N818 - not an error
    """The first op has been dispatched: nothing after it counts."""


def bundle(folder: Path, checkpoint: Path, ledger: Ledger) -> None:
    """The runtime on a mocked mesh: open, map, load the text encoder's tensors, dispatch its first op."""
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


def from_torch(folder: Path, checkpoint: Path, ledger: Ledger) -> None:
    """The same text encoder from its checkpoint: every tensor laid out by ttnn.from_torch, a replica on each chip."""
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


def import_torch(folder: Path, checkpoint: Path, ledger: Ledger) -> None:
    """Nothing but that."""
    import torch

    assert torch


ARMS: dict[str, Callable[[Path, Path, Ledger], None]] = {
    arm.__name__: arm for arm in (bundle, from_torch, import_torch)
}


def main(arm: str, folder: Path, checkpoint: Path) -> None:
    """Runs a contender and prints what it took."""
    ledger = Ledger()
    ledger.add("imports", 0)
    ARMS[arm](folder, checkpoint, ledger)
    numbers = ledger.numbers()
    outcome = {"seconds": numbers["total"], "parts": numbers["seconds"], "torch": "torch" in sys.modules}
    sys.stdout.write(json.dumps(outcome) + "\n")


def _until_dispatched(executable: Any, inputs: dict[str, Any]) -> None:
    def stop(index: int) -> None:
        raise _Dispatched

    try:
        executable.run(inputs, stop)
    except _Dispatched:
        return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
