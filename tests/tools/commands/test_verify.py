"""mochi-verify in processes of its own: each has a mock mesh of another shape."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.ttnn.program_report import ProgramReport, Refusal
from mochi_aot.tools.commands.bundle_report import verified
from mochi_aot.tools.commands.dry_run_report import text
from mochi_aot.tools.commands.verify import main
from tests.artifacts import samples
from tests.forked import run_forked
from tests.runtime import toy_bundle

ROOT = Path(__file__).parents[3]
# Writes a bundle for ttnn on 1x2 with one weight and one program; `op` is its second instruction, of so many operands
# and with these attributes.
WRITE_BUNDLE = """
import json, sys
from importlib.metadata import version
from pathlib import Path
from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock
from tests.runtime.ttnn.on_mesh import instruction, program, spec
folder, op, count, attrs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
enter_mock(prepare_mock((1, 2), folder / "mock"))
import numpy, ttnn
x = spec([1, 12, 2, 4, 8])
sample = program(
    {"latents": x}, ["w"], {"latents": (3, x)},
    [instruction("add", [0, 1], [2], []), instruction(op, [2] * count, [3], [2], **attrs)],
    (1, 2), (1, 12, 2, 4, 8), "denoise",
)
ones = numpy.ones([1, 12, 2, 4, 8], numpy.float32)
pieces = [ttnn.Tensor(ones, ttnn.bfloat16, None, ttnn.TILE_LAYOUT) for _ in range(2)]
tensor = ttnn.from_host_shards(pieces, ttnn.MeshShape(1, 2))
with BundleWriter(folder / "b") as writer:
    file = writer.add_program(sample)
    weight = writer.add_tensor_file(lambda path: ttnn.dump_tensor(path, tensor))
    writer.add_weight(schema.Weight("w", "bfloat16", [1, 12, 2, 4, 8], [], weight))
    geometry = schema.Geometry(32, 64, 7, {"denoise": file})
    writer.finish(
        target="ttnn", mesh=[1, 2], dtype="bfloat16", step_capacity=8, text_length=8, model={},
        checkpoint={}, versions={}, geometries=[geometry], created_by="test",
        mesh_settings=schema.MeshSettings("wormhole_b0", "1d", 32768, 0), ttnn=version("ttnn"),
    )
"""
ROLES = ["encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode", "encode"]
GEOMETRY = "64x128x13"


def verify(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mochi_aot.tools.commands.verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@cache
def dry_run(*arguments: str) -> dict[str, dict[str, Any]]:
    """Reports by role of the bench preset on a mesh."""
    done = run_forked("verify", "--config", "bench", "--geometry", GEOMETRY, "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(done.stdout)
    assert result["accepted"] == (done.returncode == 0)
    return {report["role"]: report for report in result["programs"]}


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["1x8", "2x4"])
def test_a_configuration_alone(mesh: str) -> None:
    reports = dry_run("--mesh", mesh)
    assert list(reports) == ROLES
    for role in ROLES:
        report = reports[role]
        assert report["refusal"] is None
        assert report["accepted"] == report["ops"] > 0
        assert 0 < report["weight_bytes"] < report["peak_bytes"]
        assert report["weight_bytes"] <= report["after_bytes"] <= report["peak_bytes"]
        assert report["kernels_built"] > 0 and report["geometry"] == GEOMETRY


@pytest.mark.slow
def test_weights_in_blocks_take_less() -> None:
    """bfloat8_b has 17 bytes for 16 numbers where bfloat16 has 32; only matrices are in it."""
    whole, blocks = dry_run("--mesh", "2x4"), dry_run("--mesh", "2x4", "--weights-dtype", "bfloat8_b")
    for role in ("encode_text", "denoise"):
        ratio = blocks[role]["weight_bytes"] / whole[role]["weight_bytes"]
        assert 17 / 32 <= ratio < 0.9, role


def verify_written(folder: Path, op: str, count: int = 2, **attrs: int) -> tuple[int, dict[str, Any]]:
    """Exit code and the one report of a bundle of WRITE_BUNDLE."""
    arguments = [str(folder), op, str(count), json.dumps(attrs)]
    subprocess.run([sys.executable, "-c", WRITE_BUNDLE, *arguments], check=True, cwd=ROOT)
    done = verify(str(folder / "b"), "--json")
    assert "\nverified: " in done.stderr, done.stderr
    [report] = json.loads(done.stdout)["programs"]
    return done.returncode, report


@pytest.mark.slow
def test_a_ttnn_bundle(tmp_path: Path) -> None:
    code, report = verify_written(tmp_path, "add")
    assert code == 0 and report["refusal"] is None
    assert (report["role"], report["ops"], report["accepted"], report["rejected"]) == ("denoise", 2, 2, 0)
    # 24 tiles of 2048 bytes take two in each of 12 banks; at the peak: input, weight, and two results.
    assert report["weight_bytes"] == 24 * 2048
    assert report["peak_bytes"] == 4 * 24 * 2048


@pytest.mark.slow
def test_an_op_that_ttnn_rejects(tmp_path: Path) -> None:
    """4 x 8 by 4 x 8 is no matrix product."""
    code, report = verify_written(tmp_path, "matmul")
    assert code == 6
    assert (report["accepted"], report["rejected"]) == (1, 1)
    refusal = report["refusal"]
    assert (refusal["instruction"], refusal["op"], refusal["loc"]) == (1, "matmul", "matmul.py:1")
    assert refusal["reason"].startswith("The width of the first tensor must be equal to the height of the second")


@pytest.mark.slow
def test_an_op_that_ttnn_accepts_and_gets_wrong(tmp_path: Path) -> None:
    """A bundle from before the compiler knew of the defect: a softmax without a compute config."""
    code, report = verify_written(tmp_path, "softmax", 1, dim=4)
    assert code == 6
    refusal = report["refusal"]
    assert (refusal["instruction"], refusal["op"], refusal["loc"]) == (1, "softmax", "softmax.py:1")
    assert "known defect softmax-exponential" in refusal["reason"] and "compile the bundle again" in refusal["reason"]


def test_a_torch_bundle_is_compared_with_its_hashes_and_programs_only(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b")
    result = CliRunner().invoke(main, [str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert "\nverified: 11 files" in result.stderr and result.stdout == ""
    result = CliRunner().invoke(main, [str(tmp_path / "b"), "--json"])
    assert json.loads(result.stdout) == {"accepted": True, "programs": []}


def test_a_damaged_bundle(tmp_path: Path) -> None:
    samples.write_bundle(tmp_path / "b")
    bundle = Bundle.open(tmp_path / "b")
    shard = bundle.manifest.shards[0]
    path = tmp_path / "b" / bundle.manifest.files[shard.file].path
    data = bytearray(path.read_bytes())
    data[shard.offset] ^= 1
    path.write_bytes(data)
    result = CliRunner().invoke(main, [str(tmp_path / "b")])
    assert result.exit_code == 3
    assert "\nerror: " in result.stderr and "do not match their hash" in result.stderr


def test_another_bundle_than_the_expected_one_is_refused(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b")
    bundle = Bundle.open(tmp_path / "b")
    result = CliRunner().invoke(main, [str(bundle.path), "--expect-id", f" {bundle.id.upper()}"])
    assert result.exit_code == 0, result.output
    for more in ([], ["--values"]):
        result = CliRunner().invoke(main, [str(bundle.path), "--expect-id", "0" * 64, *more])
        assert (result.exit_code, result.stdout) == (3, "")
        assert f"error: {bundle.path}: expected the bundle {'0' * 64}, seen {bundle.id}" in result.stderr


@pytest.mark.parametrize("other", [{"count": 2}, {"build_keys": ["key2"]}, {"build_keys": ["key1", "key2"]}])
def test_what_the_manifest_says_of_kernels_is_compared_with_them(tmp_path: Path, other: dict[str, Any]) -> None:
    samples.write_cache(tmp_path / "cache")
    bundle_of = partial(samples.write_kernel_bundle, cache=tmp_path / "cache")
    verified(Bundle.open(bundle_of(tmp_path / "right", kernels=samples.KERNELS)))
    field = next(iter(other))
    with pytest.raises(BundleError, match=rf"kernels: {field} is .*, and its archive has"):
        verified(Bundle.open(bundle_of(tmp_path / "wrong", kernels=replace(samples.KERNELS, **other))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "mochi-1", "--expect-id", "0"], "--expect-id is of a BUNDLE"),
        ([], "give a BUNDLE or --config"),
        (["b", "--config", "mochi-1"], "give a BUNDLE or --config"),
        (["b", "--mesh", "2x4"], "belong to --config"),
        (["--config", "mochi-1"], "--config needs --mesh"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_configuration_that_is_not_there() -> None:
    result = CliRunner().invoke(main, ["--config", "/nowhere", "--mesh", "2x4"])
    assert result.exit_code == 3
    assert "\nerror: " in result.stderr and "/nowhere" in result.stderr


def test_a_refusal_names_the_instruction() -> None:
    refusal = Refusal("too wide", 7, "linear", "reference/dit.py:12")
    lines = text([ProgramReport("16x16x7", "denoise", ops=9, accepted=7, rejected=1, refusal=refusal)]).splitlines()
    assert lines[1].split()[:5] == ["16x16x7", "denoise", "9", "7", "1"]
    assert lines[-1] == "refused: denoise, instruction 7, linear (reference/dit.py:12): too wide"
    assert text([ProgramReport("16x16x7", "decode", refusal=Refusal("no plan"))]).endswith("refused: decode: no plan")
