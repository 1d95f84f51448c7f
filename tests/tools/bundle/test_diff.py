"""mochi-bundle diff: bundles that differ in one thing each, and how much of the second a host with the first lacks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from mochi_aot.artifacts import BundleWriter
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, Weight
from mochi_aot.tools.bundle.diff import Difference, difference
from mochi_aot.tools.commands.bundle import main
from tests.artifacts import samples
from tests.tools.bundle import made


def written(path: Path, program: object = samples.PROGRAM, plan: str = "", created_by: str = "test") -> Bundle:
    """A bundle of the sample program and its weight."""
    wanted = replace(samples.PROGRAM, plan=plan) if plan else program
    with BundleWriter(path) as writer:
        index = writer.add_program(wanted)  # type: ignore[arg-type]
        shards = [writer.add_shard(samples.LEFT), writer.add_shard(samples.RIGHT)]
        writer.add_weight(Weight("scale", "float32", [4, 3], shards))
        bare = {**samples.BARE, "geometries": [Geometry(16, 32, 7, {"denoise": index})], "created_by": created_by}
        writer.finish(**bare, target="torch", dtype="float32")
    return Bundle.open(path)


def of_seeds(tmp_path: Path, before: tuple[int, ...], after: tuple[int, ...]) -> Difference:
    bundles = [
        Bundle.open(made.write_bundle(tmp_path / name, seeds, 1 << 30)) for name, seeds in (("a", before), ("b", after))
    ]
    return difference(bundles[0], bundles[1])


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["diff", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_same_bundle(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a"), written(tmp_path / "b")
    found = difference(one, other)
    assert found.is_empty and found.fields == [] and found.programs == []
    assert found.weights.same == 1 and found.weights.bytes_to_move == 0
    assert run(one.path, other.path) == f"the same bundle, {one.id}\n"
    assert json.loads(run(one.path, other.path, "--json"))["equal"] is True


def test_a_field(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a"), written(tmp_path / "b", created_by="other")
    found = difference(one, other)
    assert [(change.field, change.before, change.after) for change in found.fields] == [("created_by", "test", "other")]
    assert found.programs == [] and not found.is_empty
    assert "- created_by test\n+ created_by other\n" in run(one.path, other.path)


def test_an_instruction_is_shown_as_diff_shows_a_line(tmp_path: Path) -> None:
    changed = replace(samples.PROGRAM.instructions[0], op="add")
    program = replace(samples.PROGRAM, instructions=[changed, *samples.PROGRAM.instructions[1:]])
    (change,) = difference(written(tmp_path / "a"), written(tmp_path / "b", program)).programs
    assert (change.geometry, change.role, change.plans) == ("16x32x7", "denoise", ("sp1tp0", "sp1tp0"))
    marked = [line for line in change.lines if line[0] in "+-"]
    assert marked == [
        "--- a/16x32x7/denoise",
        "+++ b/16x32x7/denoise",
        "-  %2 = mul(%latents, @scale)  # dit.py:7",
        "+  %2 = add(%latents, @scale)  # dit.py:7",
    ]
    assert run(tmp_path / "a", tmp_path / "b").count("\n+  %2 = add(") == 1


def test_a_plan(tmp_path: Path) -> None:
    (change,) = difference(written(tmp_path / "a"), written(tmp_path / "b", plan="sp0tp1")).programs
    assert change.plans == ("sp1tp0", "sp0tp1")
    assert "program denoise of 16x32x7, plan sp1tp0 -> sp0tp1\n" in run(tmp_path / "a", tmp_path / "b")


def test_a_program_that_one_bundle_lacks(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        samples.finish_for_torch(writer)
    (change,) = difference(written(tmp_path / "a"), Bundle.open(tmp_path / "b")).programs
    assert change.plans == ("sp1tp0", None)
    assert change.lines[2].startswith("@@ ") and all(line.startswith("-") for line in change.lines[3:])


def test_weights_by_name_and_the_bytes_that_must_move(tmp_path: Path) -> None:
    """A seed is a weight of 100,000 numbers of 2 bytes; the manifests and programs are other files besides."""
    found = of_seeds(tmp_path, (0, 1), (1, 3))
    assert (found.weights.added, found.weights.missing, found.weights.changed) == (["w3"], ["w0"], [])
    assert (found.weights.same, found.weights.moved) == (0, ["w1", "noise", "scale"])  # in another file, one of all
    assert found.weights.bytes_to_move == 200_000


def test_a_changed_weight(tmp_path: Path) -> None:
    for name, first in (("a", 1.0), ("b", 2.0)):
        with BundleWriter(tmp_path / name) as writer:
            shard = writer.add_shard(np.full(5, first, np.float32))
            writer.add_weight(Weight("w", "float32", [5], [shard, shard]))
            samples.finish_for_torch(writer)
    weights = difference(Bundle.open(tmp_path / "a"), Bundle.open(tmp_path / "b")).weights
    assert (weights.same, weights.moved, weights.changed, weights.bytes_to_move) == (0, [], ["w"], 20)
    assert "  changed w\n" in run(tmp_path / "a", tmp_path / "b")


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    written(tmp_path / "a")
    result = CliRunner().invoke(main, ["diff", str(tmp_path / "a"), str(tmp_path / "none")])
    assert result.exit_code == 3 and "does not exist" in result.stderr and result.stdout == ""
