"""A bundle whose weights lie in several files, some of which zstd makes smaller, and what tests do with it."""

from pathlib import Path

import numpy as np

from mochi_aot.artifacts import BundleWriter
from mochi_aot.artifacts.schema import Weight
from tests.artifacts import samples

SIGNATURE = "signatures/" + "0" * 64


def silent(nbytes: int) -> None:
    """Take no notice of progress."""


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def numbers(seed: int, count: int) -> np.ndarray:
    """Normal numbers as the upper halves of float32, which is what bfloat16 is."""
    made = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    return (made.view(np.uint32) >> 16).astype(np.uint16)


def write_bundle(path: Path, seeds: tuple[int, ...] = (0, 1), file_bytes: int = 200_000) -> Path:
    """A weight of 200 kB for each seed, two of noise, a program, a tokenizer, and a signature that is none."""
    noise = np.random.default_rng(2).integers(0, 256, 199_000, np.uint8)
    with BundleWriter(path, file_bytes=file_bytes) as writer:
        for seed in seeds:
            shard = writer.add_shard(numbers(seed, 100_000))
            writer.add_weight(Weight(f"w{seed}", "bfloat16", [100_000], [shard, shard]))
        shards = [writer.add_shard(noise), writer.add_shard(noise[::-1].copy())]
        writer.add_weight(Weight("noise", "uint8", [199_000], shards))
        scale = [writer.add_shard(samples.LEFT), writer.add_shard(samples.RIGHT)]
        writer.add_weight(Weight("scale", "float32", [4, 3], scale))
        writer.add_program(samples.PROGRAM)
        writer.add_tokenizer(samples.TOKENIZER)
        samples.finish_for_torch(writer)
    (path / "signatures").mkdir()
    (path / SIGNATURE).write_bytes(b"s" * 64)
    return path
