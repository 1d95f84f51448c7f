"""mochi-verify --values and --simulate: messages, exit codes, the table, and the path on a mesh without numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mochi_aot.tools.commands.values_report import text
from mochi_aot.tools.commands.verify import main
from mochi_aot.tools.golden.check import Found, ValuesReport
from tests.runtime import toy_bundle
from tests.tools.commands.test_verify import WRITE_BUNDLE, verify

SIMULATOR = "MOCHI_SIMULATOR"  # the library for an n300, where there is one
needs_simulator = pytest.mark.skipif(
    SIMULATOR not in os.environ, reason=f"{SIMULATOR} does not name a simulator's library for an n300"
)
# Heads cut and tokens joined over an n300, of a weight that is another on each chip, and back.
THERE_AND_BACK = """
import sys
from importlib.metadata import version
from pathlib import Path
from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock
from tests.runtime.ttnn.on_mesh import instruction, program, spec
folder, shape = Path(sys.argv[1]), [1, 4, 64, 64]
enter_mock(prepare_mock((1, 2), folder / "mock"))
import numpy, ttnn
x, swap = spec([1, 12, 2, 4, 8]), "experimental.all_to_all_async_generic"
sample = program(
    {"latents": x}, ["w"], {"latents": (4, x)},
    [
        instruction(swap, [1], [2], [], in_dim=2, out_dim=1, axis=1),
        instruction(swap, [2], [3], [2, 3], in_dim=1, out_dim=2, axis=1),
        instruction("add", [0], [4], [], value=1.0),
    ],
    (1, 2), tuple(shape), "denoise",
)
random = numpy.random.default_rng(0)
pieces = [
    ttnn.Tensor(random.standard_normal(shape, numpy.float32), ttnn.bfloat16, None, ttnn.TILE_LAYOUT) for _ in range(2)
]
tensor = ttnn.from_host_shards(pieces, ttnn.MeshShape(1, 2))
with BundleWriter(folder / "b") as writer:
    file = writer.add_program(sample)
    weight = writer.add_tensor_file(lambda path: ttnn.dump_tensor(path, tensor))
    writer.add_weight(schema.Weight("w", "bfloat16", shape, [], weight))
    writer.finish(
        target="ttnn", mesh=[1, 2], dtype="bfloat16", step_capacity=8, text_length=8, model={},
        checkpoint={}, versions={}, geometries=[schema.Geometry(32, 64, 7, {"denoise": file})], created_by="test",
        mesh_settings=schema.MeshSettings("wormhole_b0", "1d", 32768, 0), ttnn=version("ttnn"),
    )
"""
# What only zeros on a mocked mesh are wrong about: 0 + 1.
ON_MOCK = """
import sys
from pathlib import Path
from mochi_aot.tools.commands.checking_values import check_values
from mochi_aot.tools.commands.console import Console, LogSettings, logging_as
with logging_as(LogSettings()), Console() as console:
    check_values(Path(sys.argv[1]), None, "mock", (7, 5), (), True, console)
"""


def written(folder: Path, op: str, operands: int, **attrs: float) -> Path:
    command = [sys.executable, "-c", WRITE_BUNDLE, str(folder), op, str(operands), json.dumps(attrs)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "b"


def found(instruction: int, pcc: float) -> Found:
    return Found(instruction, "silu", "dit.py:7", 3, pcc, 0.25)


def test_the_table() -> None:
    reports = [
        ValuesReport("64x64x13", "denoise", "1x2", (7, 40), 9, 9, found(2, 0.5), [found(2, 0.5), found(4, 0.9)], 61.4),
        ValuesReport("64x64x13", "decode", "1x2", (7, 40), 9, 3, found(1, 0.99999), [], 2.0, "no room"),
        ValuesReport("64x64x13", "encode", "1x2", (7, 40), 9, 0, None, [], 0.0, "no weights"),
    ]
    assert text(reports).splitlines() == [
        "geometry  program  mesh  tokens  compared  least PCC  of    departures  seconds",
        "64x64x13  denoise   1x2   7, 40    9 of 9  0.500000   silu           2       61",
        "64x64x13  decode    1x2   7, 40    3 of 9  0.999990   silu           0        2",
        "64x64x13  encode    1x2   7, 40    0 of 9  -          -              0        0",
        "first departure: denoise, instruction 2, silu (dit.py:7): PCC 0.500000, relative error 0.25 on chip 3",
        "failed: decode: no room",
        "failed: encode: no weights",
    ]
    assert [report.right for report in reports] == [False, False, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--values", "--config", "mochi-1"], "--values and --simulate compare the numbers of a BUNDLE"),
        (["b", "--prompt-tokens", "1,2"], "--device, --prompt-tokens and --program belong to --values"),
        (["b", "--device", "chips"], "--device, --prompt-tokens and --program belong to --values"),
        (["b", "--values", "--prompt-tokens", "1"], "'1' is not two whole numbers with a comma between them"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2 and message in done.stderr


def test_a_bundle_for_torch(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b")
    done = verify(str(tmp_path / "b"), "--simulate")
    expected = f"error: {tmp_path}/b: compiled for torch; instructions are compared for ttnn only\n"
    assert done.returncode == 5 and done.stderr.endswith(expected)


def test_what_the_bundle_does_not_have_and_a_simulator_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TT_METAL_SIMULATOR", raising=False)
    path = str(written(tmp_path, "add", 1, value=1.0))
    done = verify(path, "--simulate", "--program", "decode")
    assert done.returncode == 2 and "--program decode: the bundle has denoise" in done.stderr
    done = verify(path, "--simulate", "--prompt-tokens", "9,0")
    assert done.returncode == 2 and "--prompt-tokens 9,0: the bundle's prompts have 0 to 8" in done.stderr
    done = verify(path, "--simulate")
    assert done.returncode == 5
    assert done.stderr.endswith("error: no simulator: give its library by --simulator FILE or TT_METAL_SIMULATOR\n")
    done = verify(path, "--simulate", "--simulator", str(tmp_path / "none.so"))
    assert done.returncode == 5 and f"error: no simulator at {tmp_path}/none.so: expected" in done.stderr


def there_and_back(folder: Path) -> Path:
    """Write the bundle of THERE_AND_BACK into a folder, and return its path."""
    done = subprocess.run([sys.executable, "-c", THERE_AND_BACK, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "b"


def test_a_mocked_mesh_is_named_as_wrong_where_zeros_are(tmp_path: Path) -> None:
    """The code of chips, on a mesh whose numbers are all zeros: the first sum is 0 + 0, and the second 0 + 1."""
    path = written(tmp_path, "add", 1, value=1.0)
    done = subprocess.run([sys.executable, "-c", ON_MOCK, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    report = json.loads(done.stdout)
    (program,) = report["programs"]
    assert (report["right"], report["device"]) == (False, "mock")
    assert (program["role"], program["compared"], program["instructions"]) == ("denoise", 2, 2)
    (departure,) = program["departures"]
    assert (departure["instruction"], departure["op"], departure["loc"]) == (1, "add", "add.py:1")
    assert (departure["pcc"], departure["error"]) == (0.0, 1.0)
    assert "\ncomparing denoise\ndenoise: 2 of 2 instructions compared, least PCC 0.000000\nfirst depart" in done.stderr


@needs_simulator
def test_a_small_bundle_on_the_simulator(tmp_path: Path) -> None:
    path = written(tmp_path, "silu", 1)
    done = verify(str(path), "--simulate", "--simulator", os.environ[SIMULATOR], "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (program,) = report["programs"]
    assert report["right"] and program["compared"] == 2 and program["departures"] == []
    assert 0.9999 < program["worst"]["pcc"] < 1  # bfloat16 results of float32 definitions


def test_an_all_to_all_on_a_mocked_mesh(tmp_path: Path) -> None:
    """The bundle of the test below is one, also where there is no simulator."""
    done = verify(str(there_and_back(tmp_path)))
    assert done.returncode == 0, done.stderr


@needs_simulator
def test_an_all_to_all_on_the_simulator(tmp_path: Path) -> None:
    """It moves numbers and computes none: its results are its definition's to the bit, which `error` 0 says."""
    done = verify(str(there_and_back(tmp_path)), "--simulate", "--simulator", os.environ[SIMULATOR], "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (program,) = report["programs"]
    assert report["right"] and program["compared"] == 3
    worst = program["worst"]
    assert worst["op"] == "add" or worst["error"] == 0
