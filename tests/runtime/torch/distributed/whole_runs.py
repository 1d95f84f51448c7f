"""Whole bundles, run by processes and simulated: the numbers must be the same to the last bit.

`python -m tests.runtime.torch.distributed.whole_runs [MESH...]` does so for the meshes 1x2, 2x2 and 2x4 and every plan
of every model, on sizes that do not divide; the suite takes a few of these.
"""

import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.targets import follow, open_backend
from mochi_aot.runtime.torch.distributed.rank import RankBackend
from mochi_aot.runtime.weight_reader import WeightReader
from mochi_aot.runtime.world import World
from tests.runtime.torch.distributed.ranks import Ranks

MESHES = ((1, 2), (2, 2), (2, 4))
SIGMAS = linear_quadratic_sigmas(2)

Arrays = dict[str, np.ndarray]


def everything(pipeline: Pipeline) -> Arrays:
    """What all programs of a bundle make: of a prompt of a few tokens and an empty one, of noise, and of frames."""
    geometry, rng = pipeline.geometry(), np.random.default_rng(6)
    positive, negative = pipeline.encode_prompt("a quiet river"), pipeline.encode_prompt("")
    noise = seeded_latents(3, pipeline.latent_shape(geometry))
    conditioning = pipeline.condition(positive, negative, SIGMAS, 4.5, geometry)
    made = {"embeds": positive.embeds, "latents": pipeline.denoise(noise, conditioning)}
    made["frames"] = pipeline.decode(noise, geometry)
    if "encode" in geometry.programs:
        frames = rng.integers(0, 256, (geometry.frames, geometry.height, geometry.width, 3), np.uint8)
        made["encoded"] = pipeline.encode(frames, geometry)
    return made


def simulated(path: Path) -> Arrays:
    """What one process makes of it, that simulates the mesh."""
    return everything(Pipeline.open(path, "cpu"))


def as_rank(world: World, path: Path) -> tuple[Arrays, dict[str, int]]:
    """What a process of a run makes, which is nothing but for the leader; and the bytes of each weight that it held."""
    held: dict[str, int] = {}
    freeing = RankBackend.free_weights

    def free(backend: RankBackend, names: Any) -> None:
        held.update({name: backend._weights[name][0].nbytes for name in names if backend._weights.is_made(name)})
        freeing(backend, names)

    with patch.object(RankBackend, "free_weights", free):
        if world.rank > 0:
            assert follow(path, None, world, check=True) == 0
            return {}, held
        bundle = Bundle.open(path).for_device(0)
        pipeline = Pipeline(bundle, open_backend(bundle, "cpu", world), WeightReader(bundle))
        made = everything(pipeline)
        for role in pipeline.geometry().programs:  # nothing stays that this does not free
            pipeline._backend.free_weights([w.name for w in bundle.program(role, pipeline.geometry()).weights])
        pipeline.close()
        return made, held


def differences(made: Arrays, expected: Arrays) -> dict[str, float]:
    """The largest difference over the largest value of each array that is not the same to the last bit."""
    assert made.keys() == expected.keys()
    pairs = {name: (made[name].astype(float), expected[name].astype(float)) for name in made}
    return {
        name: float(np.abs(x - y).max() / np.abs(y).max()) for name, (x, y) in pairs.items() if not np.array_equal(x, y)
    }


def plan_cases(mesh: tuple[int, int]) -> list[tuple[str, ...]]:
    """Plans of all models, so that each plan of each model that the mesh can have is met."""
    from mochi_aot.compiler.partition.plans import DECODER_PLANS, TEXT_PLANS, TRANSFORMER_PLANS

    dit = [plan for plan in TRANSFORMER_PLANS if not plan.startswith("gp") or mesh[int(plan[2])] <= 2]
    # 3 latent frames over more than 2 devices leave pieces of one frame; a convolution needs two of its neighbour.
    vae = [plan for plan in DECODER_PLANS if "t" not in plan or mesh[int(plan[plan.index("t") + 1])] <= 2]
    families = [dit, vae, list(TEXT_PLANS)]
    count = max(map(len, families))
    return list(zip(*(islice(cycle(family), count) for family in families), strict=True))


def traced_once() -> Any:
    """A context in which all compiles share one trace, which depends neither on mesh nor plan."""
    from mochi_aot.compiler import compile as compiling

    build, built = compiling.build_programs, dict[Any, Any]()

    def cached(config: Any, geometry: Any, dtype: str, source: Any, pipeline: Any, *rest: Any) -> Any:
        key = (config, geometry, dtype, *rest)
        if key not in built:
            built[key] = build(config, geometry, dtype, source, pipeline, *rest)
        return built[key]

    return patch.object(compiling, "build_programs", cached)


def write_bundle(folder: Path, mesh: tuple[int, int], plans: tuple[str, ...], float8: bool = False) -> Path:
    """Compile the tiny model for a video that no mesh divides: 45 tokens, 6x10 latents of 3 frames. In float32, or in
    bfloat16 with matrices in float8."""
    from mochi_aot.compiler.checkpoint import open_checkpoint
    from mochi_aot.compiler.checkpoint.presets import TINY
    from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
    from mochi_aot.compiler.compile import compile_bundle
    from mochi_aot.compiler.job import Job
    from mochi_aot.compiler.reference.geometry import Geometry

    if not (folder / "tiny").exists():
        write_checkpoint(folder / "tiny", TINY, "diffusers")
    path = folder / f"{mesh[0]}x{mesh[1]}-{'-'.join(plans)}"
    dtypes = {"dtype": "bfloat16", "weights_dtype": "float8"} if float8 else {"dtype": "float32"}
    compile_bundle(open_checkpoint(folder / "tiny"), Job(mesh, (Geometry(48, 80, 13),), plans, **dtypes), path)
    return path


def check_held(path: Path, held: list[dict[str, int]]) -> None:
    """Each process had of each weight its own shard, and nothing else."""
    weights = Bundle.open(path).weights
    sizes = Bundle.open(path).manifest.shards
    for rank, names in enumerate(held):
        assert names.keys() == weights.keys(), set(weights) - set(names)
        for name, nbytes in names.items():
            assert nbytes == sizes[weights[name].shards[rank]].nbytes, (rank, name)


def main() -> None:
    chosen = {f"{rows}x{columns}": (rows, columns) for rows, columns in MESHES}
    meshes = [chosen[name] for name in sys.argv[1:] or chosen]
    with tempfile.TemporaryDirectory() as folder, traced_once(), Ranks() as ranks:
        worst, count = 0.0, 0
        for mesh in meshes:
            for plans in plan_cases(mesh):
                path = write_bundle(Path(folder), mesh, plans)
                results = ranks.run(mesh[0] * mesh[1], as_rank, path)
                check_held(path, [held for _, held in results])
                found = differences(results[0][0], simulated(path))
                worst, count = max([worst, *found.values()]), count + 1
                print(mesh, plans, found or "the same to the last bit", flush=True)
        print(f"{count} bundles, worst difference {worst:g}")
        sys.exit(worst > 1e-5)


if __name__ == "__main__":
    main()
