"""mochi-inspect on the smallest bundle of the format, on a toy_bundle one, and on damaged ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Placement, TensorSpec
from mochi_aot.tools.commands.inspect import main
from mochi_aot.tools.commands.listing import spec_text
from tests.artifacts import samples
from tests.runtime import toy_bundle


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    samples.write_bundle(tmp_path / "sample.bundle")
    return tmp_path / "sample.bundle"


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def output(*arguments: object) -> str:
    result = inspect(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


HASHING = "comparing every byte with its hash\n"  # what --verify says first


def fails(result: Result, message: str, code: int = 3) -> None:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    stderr = result.stderr.removeprefix(HASHING)
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, result.stderr
    assert message in result.stderr


def test_the_summary(sample: Path) -> None:
    assert output(sample) == (
        f"bundle     {Bundle.open(sample).id}\n"
        "target     torch, mesh 1x2, float32\n"
        "limits     256 text tokens, 8 steps a table\n"
        "made by    test, format 4, with torch 2\n"
        "made from  dit 0123\n"
        "model dit  layers 2, widths 1x2.5xNonexTrue\n"
        "weights    3, 100 B a device, 8.2 kB on disk; 3 shards stored once serve 6 places\n"
        "\n"
        "geometry 16x32x7\n"
        "program  plan    instructions  compute  weights  sent  collectives\n"
        "denoise  sp1tp0             2  12 FLOP     48 B  96 B  all_gather 1\n"
    )


def test_what_a_ttnn_bundle_says_of_its_mesh_and_kernels(tmp_path: Path) -> None:
    samples.write_cache(tmp_path / "cache")
    path = samples.write_kernel_bundle(tmp_path / "b", tmp_path / "cache", samples.KERNELS)
    assert [" ".join(line.split()) for line in output(path).splitlines()[2:5]] == [
        "for wormhole_b0 chips, ttnn 0.1, weights in bfloat16, links in bfloat16",
        "mesh fabric 1d, 32768 B of L1 small a core, 0 B for traces",
        "kernels 1 by the stand-in compiler (for mocked meshes only), for ttnn 0.1 at /root, key1",
    ]
    summary = json.loads(output(path, "--json"))
    assert summary["mesh_settings"] == {
        "arch": "wormhole_b0",
        "fabric": "1d",
        "l1_small_bytes": 32768,
        "trace_bytes": 0,
    }
    assert summary["kernels"]["stand_in"] is True and summary["kernels"]["build_keys"] == ["key1"]


def test_what_a_torch_bundle_says_of_its_matrices(tmp_path: Path) -> None:
    samples.write_float8_bundle(tmp_path / "b")
    assert "target     torch, mesh 1x2, bfloat16, matrices in float8\n" in output(tmp_path / "b")
    summary = json.loads(output(tmp_path / "b", "--json"))
    assert (summary["dtype"], summary["weights_dtype"]) == ("bfloat16", "float8")


def test_programs_stand_in_the_order_in_which_they_run(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b")
    lines = output(tmp_path / "b").splitlines()
    roles = ["encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode", "encode"]
    for size in ("16x32x13", "16x16x7"):
        start = lines.index(f"geometry {size}") + 2
        assert [line.split()[0] for line in lines[start : start + 6]] == roles


def test_json_says_the_same(sample: Path) -> None:
    summary = json.loads(output(sample, "--json"))
    assert summary["id"] == Bundle.open(sample).id
    assert (summary["target"], summary["mesh"], summary["dtype"]) == ("torch", [1, 2], "float32")
    assert summary["model"] == {"dit": {"layers": 2, "widths": [1, 2.5, None, True]}}
    assert summary["checkpoint"] == {"dit": "0123"} and summary["versions"] == {"torch": "2"}
    [geometry] = summary["geometries"]
    assert (geometry["height"], geometry["width"], geometry["frames"]) == (16, 32, 7)
    assert geometry["programs"] == [
        {
            "role": "denoise",
            "plan": "sp1tp0",
            "instructions": 2,
            "flops": 12,
            "weight_bytes": 48,
            "collective_bytes": 96,
            "collectives": {"all_gather": 1},
            "dram_peak": None,
        }
    ]
    # `scale` has two pieces of 48 bytes, of which `copy` reuses one; `half` has one of 4.
    expected = {"count": 3, "bytes_per_device": 100, "shards": 3, "references": 6, "tensor_files": 0}
    assert expected.items() <= summary["totals"].items()
    assert summary["totals"]["bytes_on_disk"] == sum(p.stat().st_size for p in (sample / "weights").iterdir())
    assert [weight["shards"] for weight in summary["weights"]] == [2, 1, 1]


def test_the_weights(sample: Path) -> None:
    assert output(sample, "--weights") == (
        "a device  dtype     local shape  shards  name\n"
        "    48 B  float32           4x3       2  scale\n"
        "    48 B  float32           4x3       1  copy\n"
        "     4 B  bfloat16            2       1  half\n"
    )


def test_a_program(sample: Path) -> None:
    assert output(sample, "--program", "denoise") == (
        "program denoise, plan sp1tp0 {\n"
        "  input %latents : float32[4,6]{R,S(1:3)} rate=latent\n"
        "  weight @scale : float32[4,3] on each device\n"
        "  %2 = mul(%latents, @scale)  # dit.py:7\n"
        "  %3 = all_gather(%2) {axis=1, dim=1, size=6}  # dit.py:8\n"
        '  return "latents" %3 : float32[4,6]\n'
        "}\n"
    )


def test_a_program_of_a_geometry(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b")
    assert "input %latents : float32[1,12,3,2,4]" in output(tmp_path / "b", "--program", "denoise")
    second = output(tmp_path / "b", "--program", "denoise", "--geometry", "16x16x7")
    assert "input %latents : float32[1,12,2,2,2]" in second


def test_specs_show_placements() -> None:
    spec = TensorSpec("bfloat16", [4, 6], [2, 6], [Placement(0, 2), None])
    assert spec_text(spec) == "bfloat16[4,6]{S(0:2),R}"
    assert spec_text(TensorSpec("bool", [], [], [None, None])) == "bool[]"


def test_verify_finds_nothing_wrong(tmp_path: Path) -> None:
    """6 programs of one geometry, 3 that another has of its own, a file of weights, the tokenizer."""
    toy_bundle.write_bundle(tmp_path / "b")
    result = inspect(tmp_path / "b", "--verify")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{HASHING}verified: 11 files, ")
    assert result.stdout == output(tmp_path / "b")


def test_verify_finds_programs_that_the_manifest_does_not_fit(sample: Path) -> None:
    fails(inspect(sample, "--verify"), "program denoise wants 'latents' as ")


def test_verify_finds_a_changed_byte(sample: Path) -> None:
    [path] = (sample / "weights").iterdir()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    assert inspect(sample).exit_code == 0
    fails(inspect(sample, "--verify"), "do not match their hash")


def test_no_bundle_there(tmp_path: Path) -> None:
    fails(inspect(tmp_path / "none"), "does not exist; expected the folder of a bundle")
    fails(inspect(tmp_path), "has no manifest.msgpack")


def test_a_missing_file(sample: Path) -> None:
    [path] = (sample / "programs").iterdir()
    path.unlink()
    fails(inspect(sample), f"{path} is missing")


def test_a_program_that_is_not_there(sample: Path) -> None:
    fails(inspect(sample, "--program", "decode"), "no program 'decode'; it has denoise")
    fails(inspect(sample, "--program", "denoise", "--geometry", "16x16x7"), "no geometry '16x16x7'", 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--program", "denoise", "--json"],
        ["--weights", "--json"],
        ["--geometry", "16x32x7"],
        ["--program", "dance"],
    ],
)
def test_options_that_do_not_go_together(sample: Path, arguments: list[str]) -> None:
    result = inspect(sample, *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_a_process_of_its_own_without_torch(sample: Path) -> None:
    """With every library that the inference host lacks made impossible to import."""
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'diffusers', 'mochi_aot.compiler'): sys.modules[name] = None\n"
        "from mochi_aot.tools.commands.inspect import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(sample)], capture_output=True, text=True, check=True)
    assert done.stdout == output(sample)
