"""The variants of `mochi-bench start`, each run alone in a fresh process: `start_variants VARIANT FOLDER`.

Each returns the `bytes` that were consumed; those that are compared by their rate also `reading`, the seconds of that
part.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mochi_aot.runtime.ledger import READ, Ledger
from mochi_aot.tools.benchmarks.raw_reads import read_raw
from mochi_aot.tools.benchmarks.variants import print_outcome

if TYPE_CHECKING:
    import torch

_ROLES = ("encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode")
_SIGMAS = np.array([0.6, 0.5], np.float32)


def bundle(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Read and check by the runtime's reader, and make all weights as the torch target has them."""
    return _bundle(folder, ledger, check=True)


def unchecked(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Do the same without comparing hashes, as `mochi-run --no-check`."""
    return _bundle(folder, ledger, check=False)


def _bundle(folder: Path, ledger: Ledger, check: bool) -> dict[str, Any]:
    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.runtime.weight_reader import WeightReader

    opened = Bundle.open(folder)
    reader = WeightReader(opened, ledger, check=check)
    reader.plan(opened.weights)
    from mochi_aot.runtime.torch.weights import Weights

    weights, total = Weights((0,)), 0
    for name in opened.weights:
        weights.load(opened, name, reader.wait)
        total += sum(map(_touch, {id(tensor): tensor for tensor in weights[name]}.values()))
    return {"bytes": total}


def reader(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Read by the runtime's reader alone, without torch, until the last byte has been added up."""
    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.runtime.weight_reader import WeightReader

    opened = Bundle.open(folder)
    reader, begun, total = WeightReader(opened, ledger), ledger.now(), 0
    reader.plan(opened.weights)
    for name, weight in opened.weights.items():
        reader.wait(name)
        total += sum(_add_up(np.frombuffer(opened.shard_bytes(index), np.uint8)) for index in set(weight.shards))
    return {"bytes": total, "reading": ledger.now() - begun}


def diffusers(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Load diffusers' pipeline in the dtype of the checkpoint."""
    import torch
    from diffusers import MochiPipeline

    pipeline = MochiPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    parts = (pipeline.transformer, pipeline.vae, pipeline.text_encoder)
    tensors = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]  # each once
    return {"bytes": sum(map(_touch, tensors))}


def safetensors_mapped(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Load every tensor of every file by safe_open."""
    from safetensors import safe_open

    kept, total = [], 0
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                kept.append(file.get_tensor(name))
                total += _touch(kept[-1])
    return {"bytes": total}


def safetensors_read(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Read every file whole, then parse it."""
    from safetensors.torch import load

    kept = [load(path.read_bytes()) for path in sorted(folder.rglob("*.safetensors"))]
    return {"bytes": sum(_touch(tensor) for tensors in kept for tensor in tensors.values())}


def limit_direct(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Read past the file cache into a few buffers of huge pages; nothing is kept, nor looked at."""
    return _limit(folder, direct=True)


def limit_buffered(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Do the same through the file cache."""
    return _limit(folder, direct=False)


def stream(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Make a first denoising step that begins while weights are still being read."""
    return _first_step(folder, ledger, all_first=False)


def load_first(folder: Path, ledger: Ledger) -> dict[str, Any]:
    """Make the same step once all weights have been read."""
    return _first_step(folder, ledger, all_first=True)


def _first_step(folder: Path, ledger: Ledger, all_first: bool) -> dict[str, Any]:
    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.runtime.noise import seeded_latents
    from mochi_aot.runtime.pipeline import Pipeline, read_ahead
    from mochi_aot.runtime.targets import open_backend
    from mochi_aot.runtime.weight_reader import WeightReader

    opened = Bundle.open(folder)
    geometry, reader = opened.manifest.geometries[0], WeightReader(opened, ledger)
    read_ahead(reader, opened, _ROLES, geometry)
    wanted = dict.fromkeys(weight.name for role in _ROLES for weight in opened.program(role, geometry).weights)
    pipeline = Pipeline(opened, open_backend(opened), reader, ledger)
    if all_first:
        _wait(reader.wait, wanted)
    prompt, nothing = pipeline.encode_prompt("a heron lands on a frozen lake"), pipeline.encode_prompt("")
    conditioning = pipeline.condition(prompt, nothing, _SIGMAS, 4.5, geometry)
    latents = pipeline.denoise(seeded_latents(0, pipeline.latent_shape(geometry)), conditioning)
    step = ledger.now()
    _wait(reader.wait, [weight.name for weight in opened.program("decode", geometry).weights])
    reads = [span for span in ledger.spans if span.name == READ]
    return {
        "bytes": sum(span.nbytes for span in reads),
        "first_program": max(ledger.marks.values()),
        "first_step": step,
        "resident": max(span.start + span.seconds for span in reads),
        "latents": hashlib.sha256(latents.tobytes()).hexdigest(),
    }


def _wait(wait: Callable[[str], None], names: Iterable[str]) -> None:
    for name in names:
        wait(name)


def _touch(tensor: "torch.Tensor") -> int:
    """Add up all bytes of a tensor; return how many they are."""
    import torch

    return _add_up(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())


def _add_up(data: np.ndarray) -> int:
    whole = len(data) // 8 * 8
    data[:whole].view(np.uint64).sum()
    data[whole:].sum()
    return len(data)


def _limit(folder: Path, direct: bool) -> dict[str, Any]:
    read = read_raw(sorted((folder / "weights").iterdir()), direct)
    return {"bytes": read.nbytes, "reading": read.seconds}


VARIANTS = (
    bundle,
    unchecked,
    reader,
    diffusers,
    safetensors_mapped,
    safetensors_read,
    limit_direct,
    limit_buffered,
    stream,
    load_first,
)

if __name__ == "__main__":
    print_outcome(VARIANTS, sys.argv[1:])
