"""One of the bundles of whole_runs.py; and values that are no numbers, and bundles that differ."""

from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts.errors import ExitCode, MochiError, exit_code
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.errors import NumbersError
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.targets import dismiss, follow, open_backend
from mochi_aot.runtime.world import World
from tests.runtime import toy_bundle
from tests.runtime.torch.distributed.ranks import Ranks
from tests.runtime.torch.distributed.whole_runs import as_rank, check_held, differences, simulated, write_bundle


def test_programs_of_2x2_processes_are_the_simulations(tmp_path: Path, ranks: Ranks) -> None:
    """The ring, halos, sums over both axes. Kernels may round by where operands lie: 1e-5, for numbers
    of order 1 that go through sums of at most 512 terms."""
    path = write_bundle(tmp_path, (2, 2), ("sp1tp0", "h0w1", "tp01"))
    results = ranks.run(4, as_rank, path)
    assert max(differences(results[0][0], simulated(path)).values(), default=0.0) <= 1e-5
    check_held(path, [held for _, held in results])


def test_processes_gather_matrices_in_float8(tmp_path: Path, ranks: Ranks) -> None:
    """Half of each MLP's numbers are on either process, and go to the other as bytes. Were a number or a scale another,
    results would be off by 1; a sum rounded otherwise to bfloat16, by 2^-8 and what becomes of it."""
    path = write_bundle(tmp_path, (2, 1), ("gp0sp1fs0", "h0w1", "tp0"), float8=True)
    results = ranks.run(2, as_rank, path)
    assert max(differences(results[0][0], simulated(path)).values(), default=0.0) <= 0.05
    check_held(path, [held for _, held in results])


def infinite(world: World, path: Path, check_values: bool) -> str:
    """What is said of latents that are not finite on the last process alone."""
    if world.rank > 0:
        assert follow(path, None, world, check=True) == 0
        return ""
    bundle = Bundle.open(path)
    pipeline = Pipeline(bundle, open_backend(bundle, "cpu", world), check_values=check_values)
    latents = np.zeros(pipeline.latent_shape(pipeline.geometry()), np.float32)
    latents[..., -1] = np.inf
    try:
        with pytest.raises(NumbersError) as raised:
            pipeline.decode(latents, pipeline.geometry())
        pipeline.decode(np.zeros_like(latents), pipeline.geometry())  # all are still in step
    finally:
        pipeline.close()
    return str(raised.value)


@pytest.mark.parametrize("check_values", [False, True])
def test_numbers_that_are_none_on_another_process(check_values: bool, tmp_path: Path, ranks: Ranks) -> None:
    toy_bundle.write_bundle(tmp_path / "b", (1, 2))
    said, _ = ranks.run(2, infinite, tmp_path / "b", check_values)
    assert ("instruction 0 " if check_values else "in the video") in said


def open_other(world: World, paths: list[Path]) -> tuple[str, int]:
    """What becomes of a run whose processes have other bundles."""
    if world.rank > 0:
        return "", follow(paths[world.rank], None, world, check=True)
    try:
        open_backend(Bundle.open(paths[0]), "cpu", world)
    except MochiError as error:
        return str(error), int(exit_code(error))
    finally:
        dismiss(world)
    return "", 0


def test_all_have_the_same_bundle(tmp_path: Path, ranks: Ranks) -> None:
    first, second = (toy_bundle.write_bundle(tmp_path / name, (1, 2), own_shards=name == "b") for name in "ab")
    (said, code), (_, followed) = ranks.run(2, open_other, [tmp_path / "a", tmp_path / "b"])
    assert said.startswith("rank 1 (") and f"has the bundle {second}, rank 0 {first}" in said
    assert (code, followed) == (ExitCode.DEVICE, 0)


def test_a_rank_without_the_bundle_says_so(tmp_path: Path, ranks: Ranks) -> None:
    toy_bundle.write_bundle(tmp_path / "a", (1, 2))
    (said, code), (_, followed) = ranks.run(2, open_other, [tmp_path / "a", tmp_path / "none"])
    assert (
        said
        == f"rank 1: {tmp_path / 'none'} does not exist; expected the folder of a bundle, as mochi-compile writes it"
    )
    assert (code, followed) == (ExitCode.INPUT, ExitCode.INPUT)
