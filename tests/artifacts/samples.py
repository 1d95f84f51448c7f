"""The smallest program and bundle that use every part of the format."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mochi_aot.artifacts import BundleWriter
from mochi_aot.artifacts.kernel_archive import pack_kernels
from mochi_aot.artifacts.schema import (
    Geometry,
    Instruction,
    Kernels,
    MeshSettings,
    Placement,
    Program,
    ProgramInput,
    ProgramOutput,
    ProgramStats,
    ProgramWeight,
    TensorSpec,
    Weight,
)

SPLIT = TensorSpec("float32", [4, 6], [4, 3], [None, Placement(1, 3)])
WHOLE = TensorSpec("float32", [4, 6], [4, 6], [None, None])

PROGRAM = Program(
    name="denoise",
    mesh=[1, 2],
    plan="sp1tp0",
    inputs=[ProgramInput("latents", 0, SPLIT, "latent")],
    weights=[ProgramWeight("scale", 1, "float32", [4, 3])],
    outputs=[ProgramOutput("latents", 3, WHOLE)],
    instructions=[
        Instruction("mul", [0, 1], [2], {}, [0], "dit.py:7"),
        Instruction("all_gather", [2], [3], {"axis": 1, "dim": 1, "size": 6}, [2], "dit.py:8"),
    ],
    stats=ProgramStats(12, 48, 96, {"all_gather": 1}),
)
# What a manifest has to say where there is nothing to say.
BARE: dict[str, Any] = {"mesh": [1, 2], "step_capacity": 1, "text_length": 1, "created_by": "test"}
BARE |= {"model": {}, "checkpoint": {}, "versions": {}, "geometries": [Geometry(16, 16, 7, {})]}
KERNELS = Kernels(0, 1, True, "0.1", "g++ 1", "/root", ["key1"])
TOKENIZER = b'{"version": "1.0"}'
LEFT = np.arange(12, dtype=np.float32).reshape(4, 3)
RIGHT = LEFT + 100


def fill(writer: BundleWriter, created_by: str = "test") -> str:
    """Adds a program, three weights over a 1x2 mesh (one of them replicated) and a tokenizer; returns the id."""
    index = writer.add_program(PROGRAM)
    shards = [writer.add_shard(LEFT), writer.add_shard(RIGHT)]
    writer.add_weight(Weight("scale", "float32", [4, 3], shards))
    writer.add_weight(Weight("copy", "float32", [4, 3], [writer.add_shard(LEFT.copy())] * 2))
    writer.add_weight(Weight("half", "bfloat16", [2], [writer.add_shard(np.array([0x3F80, 0], np.uint16))] * 2))
    writer.add_tokenizer(TOKENIZER)
    return writer.finish(
        target="torch",
        mesh=[1, 2],
        dtype="float32",
        step_capacity=8,
        text_length=256,
        model={"dit": {"layers": 2, "widths": [1, 2.5, None, True]}},
        checkpoint={"dit": "0123"},
        versions={"torch": "2"},
        geometries=[Geometry(16, 32, 7, {"denoise": index})],
        created_by=created_by,
    )


def finish_for_torch(writer: BundleWriter) -> str:
    """Finish a bundle without programs, for the target torch on a 1x2 mesh; returns the id."""
    return writer.finish(**BARE, target="torch", dtype="float32")


def finish_for_chips(writer: BundleWriter, **more: Any) -> str:
    """Finish a bundle without programs, for a 1x2 mesh of chips; returns the id."""
    settings = MeshSettings("wormhole_b0", "1d", 32768, 0)
    return writer.finish(**BARE, target="ttnn", dtype="bfloat16", mesh_settings=settings, **more)


def write_tensor_bundle(path: Path) -> Path:
    """A bundle with nothing but a weight that has a tensor file, of four bytes."""
    with BundleWriter(path) as writer:
        file = writer.add_tensor_file(lambda place: place.write_bytes(b"data"))
        writer.add_weight(Weight("w", "bfloat8_b", [32, 32], [], file))
        finish_for_chips(writer, weights_dtype="bfloat8_b", ttnn="0.1")
    return path


def write_float8_bundle(path: Path) -> Path:
    """A bundle for torch with nothing but a matrix of four numbers in float8."""
    with BundleWriter(path) as writer:
        shard = writer.add_shard(b"\x38\x40\x00\xb8")
        writer.add_weight(Weight("w", "float8", [2, 2], [shard, shard]))
        writer.finish(**BARE, target="torch", dtype="bfloat16", weights_dtype="float8")
    return path


def write_cache(cache: Path) -> list[str]:
    """Files as ttnn leaves them in its kernel cache, of one kernel; returns the paths of those that it needs again."""
    kernel = cache / "key1/kernels/reader/123"
    (kernel / "brisc").mkdir(parents=True)
    (cache / "key1/pch").mkdir()
    (cache / "key1/pch/pch.h.gch").write_bytes(b"header")
    (kernel / "kernel_includes.hpp").write_bytes(b"source")
    notes = f'"/headers/a.h"\t1\n"{cache}/key1/kernels/reader/123/brisc/../kernel_includes.hpp"\t2\n'
    kept = {".build_state": b"77", "brisc.elf": b"elf", "brisck.o": b"", "brisck.o.dephash": notes.encode()}
    for name, data in {**kept, "brisc.elf.log": b"log", "brisc.elf.xip.elf": b"moved"}.items():
        (kernel / "brisc" / name).write_bytes(data)
    return [f"key1/kernels/reader/123/brisc/{name}" for name in kept]


def write_kernel_bundle(path: Path, cache: Path, kernels: Kernels) -> Path:
    """A bundle for a 1x2 mesh with nothing but the kernels of a cache, and what is to be said about them."""
    with BundleWriter(path) as writer:
        file = writer.add_kernels(lambda place: pack_kernels(cache, place))
        finish_for_chips(writer, kernels=replace(kernels, file=file), ttnn=kernels.ttnn)
    return path


def write_bundle(path: Path, force: bool = False, created_by: str = "test") -> str:
    """Writes the sample bundle to `path`; returns its id."""
    with BundleWriter(path, force) as writer:
        return fill(writer, created_by)
