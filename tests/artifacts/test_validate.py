from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.layout import tensor_path
from mochi_aot.artifacts.schema import Geometry, Manifest, MeshSettings, Placement, ProgramInput, ProgramWeight, Weight
from mochi_aot.artifacts.validate import check_manifest, check_program_fits
from tests.artifacts.samples import KERNELS, PROGRAM, SPLIT, write_cache, write_kernel_bundle


@pytest.fixture
def manifest(bundle_path: Path) -> Manifest:
    return Bundle.open(bundle_path).manifest


def edited(manifest: Manifest, field: str, index: int, **changes: Any) -> Manifest:
    """The manifest with some fields changed of one element of a list."""
    elements = list(getattr(manifest, field))
    elements[index] = replace(elements[index], **changes)
    change: dict[str, Any] = {field: elements}
    return replace(manifest, **change)


def first_weight_file(manifest: Manifest) -> int:
    return manifest.shards[0].file


def test_the_sample_passes(manifest: Manifest) -> None:
    check_manifest(manifest, "m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 1}, "m: format_version differs from 4"),
        ({"target": ""}, "m: expected a target, seen ''"),
        ({"target": "os.path"}, "m: expected a target, seen 'os.path'"),
        ({"mesh": [2]}, "m: mesh: expected [rows, columns], seen [2]"),
        ({"mesh": []}, "m: mesh: expected [rows, columns], seen []"),
        ({"mesh": [0, 2]}, "m: mesh: expected [rows, columns], seen [0, 2]"),
        ({"mesh": [2, 2]}, "m: weight 'scale': expected a shard for each of 2x2 devices, seen 2"),
        ({"dtype": "float16"}, "m: unknown dtype 'float16'"),
        ({"step_capacity": 0}, "m: step_capacity: expected 1 to 65536, seen 0"),
        ({"text_length": -1}, "m: text_length: expected 1 to 65536, seen -1"),
        ({"step_capacity": 1 << 40}, "m: step_capacity: expected 1 to 65536, seen 1099511627776"),
        ({"text_length": 1 << 62}, "m: text_length: expected 1 to 65536, seen 4611686018427387904"),
        (
            {"mesh": [1 << 62, 1 << 62]},
            "m: mesh: 4611686018427387904x4611686018427387904, expected at most 4096 devices",
        ),
        ({"geometries": [Geometry(1 << 40, 16, 7, {})]}, "1099511627776x16x7, expected at most 2147483648 pixels"),
        ({"geometries": []}, "m: expected a geometry, seen none"),
        ({"geometries": [Geometry(16, 0, 7, {})]}, "expected positive sizes"),
        ({"geometries": [Geometry(16, 32, 7, {})] * 2}, "m: geometry (16, 32, 7) occurs twice"),
        ({"geometries": [Geometry(16, 32, 7, {"train": 0})]}, "unknown role 'train'"),
        ({"geometries": [Geometry(16, 32, 7, {"decode": 9})]}, "decode: file 9 of 3"),
        ({"geometries": [Geometry(16, 32, 7, {"decode": -1})]}, "decode: file -1 of 3"),
        ({"geometries": [Geometry(16, 32, 7, {"decode": 1})]}, "decode: expected programs/<blake3>.msgpack, seen"),
        ({"geometries": [Geometry(16, 32, 7, {}, {"decode": 1})]}, "dram_peaks: 'decode' is none of its programs"),
        ({"geometries": [Geometry(16, 32, 7, {"denoise": 0}, {"denoise": -1})]}, "denoise: expected bytes, seen -1"),
        (
            {"mesh_settings": MeshSettings("wormhole_b0", "2d", 0, 0)},
            "mesh_settings: unknown fabric '2d', expected one of none, 1d",
        ),
        (
            {"mesh_settings": MeshSettings("wormhole_b0", "1d", -1, 0)},
            "mesh_settings: l1_small_bytes: expected at least 0, seen -1",
        ),
        (
            {"mesh_settings": MeshSettings("wormhole_b0", "1d", 0, -1)},
            "m: mesh_settings: trace_bytes: expected at least 0, seen -1",
        ),
        ({"kernels": replace(KERNELS, file=9)}, "m: kernels: file 9 of 3"),
        ({"kernels": replace(KERNELS, file=0)}, "m: kernels: expected kernels/<blake3>.tar, seen programs/"),
    ],
)
def test_header_and_geometries(manifest: Manifest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as error:
        check_manifest(replace(manifest, **changes), "m")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "expected a name"),
        ({"name": "copy"}, "weight 'copy' occurs twice"),
        ({"dtype": "int64"}, "weight 'scale': unknown dtype 'int64'"),
        ({"dtype": "bfloat16"}, "weight 'scale': expected 24 bytes for bfloat16 [4, 3], seen 48 in shard 0"),
        ({"local_shape": [3, 4, 0]}, "weight 'scale': expected positive dimensions, seen [3, 4, 0]"),
        ({"local_shape": [4, 4]}, "weight 'scale': expected 64 bytes for float32 [4, 4], seen 48"),
        ({"shards": [0]}, "weight 'scale': expected a shard for each of 1x2 devices, seen 1"),
        ({"shards": [0, 3]}, "weight 'scale': shard 3 of 3"),
        ({"shards": [0, -1]}, "weight 'scale': shard -1 of 3"),
        ({"dtype": "bfloat8_b"}, "weight 'scale': expected a tensor file for bfloat8_b, which no shard can hold"),
        ({"file": 3}, "weight 'scale': file 3 of 3"),
        ({"file": 1, "shards": []}, "weight 'scale': expected weights/<blake3>.tensorbin, seen weights/"),
    ],
)
def test_weights(manifest: Manifest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as error:
        check_manifest(edited(manifest, "weights", 0, **changes), "m")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": 3}, "shards[1]: file 3 of 3"),
        ({"file": 0}, "shards[1]: expected weights/<blake3>.bin, seen programs/"),
        ({"offset": 4095}, "shards[1]: offset: expected a multiple of 4096, seen 4095"),
        ({"offset": -4096}, "shards[1]: offset: expected a multiple of 4096, seen -4096"),
        ({"offset": 12288}, "shards[1]: ends at byte 12336 of weights/"),
        ({"offset": 8192, "nbytes": 5}, "shards[1]: ends at byte 8197 of weights/"),
        ({"offset": 0}, "two shards overlap at byte 0 of weights/"),
        ({"nbytes": 0}, "shards[1]: expected a positive size, seen 0"),
        ({"nbytes": -48}, "shards[1]: expected a positive size, seen -48"),
        ({"blake3": "00"}, "shards[1]: expected BLAKE3 in hex, seen '00'"),
    ],
)
def test_shards(manifest: Manifest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as error:
        check_manifest(edited(manifest, "shards", 1, **changes), "m")
    assert message in str(error.value)


def test_equal_shards_are_written_once(manifest: Manifest) -> None:
    with pytest.raises(BundleError, match=r"m: shard '[0-9a-f]{64}' occurs twice"):
        check_manifest(edited(manifest, "shards", 1, blake3=manifest.shards[0].blake3), "m")


@pytest.mark.parametrize(
    "rename",
    [
        lambda path: "../" + path,
        lambda path: "/" + path,
        lambda path: "weights/../" + path,
        lambda path: path.upper(),
        lambda path: path + "\n",
        lambda path: path.replace("weights", "kernels"),
        lambda path: "tokenizer/other.json",
        lambda path: "",
    ],
)
def test_no_other_path_may_stand_in_a_manifest(manifest: Manifest, rename: Callable[[str], str]) -> None:
    index = first_weight_file(manifest)
    with pytest.raises(BundleError, match=rf"m: files\[{index}\]: expected one of programs/"):
        check_manifest(edited(manifest, "files", index, path=rename(manifest.files[index].path)), "m")


def test_files(manifest: Manifest) -> None:
    index = first_weight_file(manifest)
    with pytest.raises(BundleError, match=r"files\[1\]: expected BLAKE3 in hex, seen 'x'"):
        check_manifest(edited(manifest, "files", index, blake3="x"), "m")
    with pytest.raises(BundleError, match=r"expected a positive size, seen 0"):
        check_manifest(edited(manifest, "files", index, nbytes=0), "m")
    with pytest.raises(BundleError, match=r"m: file 'tokenizer/tokenizer.json' occurs twice"):
        check_manifest(replace(manifest, files=[*manifest.files, manifest.files[-1]]), "m")


def test_a_program_reads_weights_that_are_there(manifest: Manifest) -> None:
    check_program_fits(PROGRAM, manifest, "p")
    program = replace(PROGRAM, weights=[ProgramWeight("bias", 1, "float32", [4, 3])])
    with pytest.raises(BundleError, match="p: reads the weight 'bias', which the bundle does not hold"):
        check_program_fits(program, manifest, "p")


def test_placements_cover_the_mesh(manifest: Manifest) -> None:
    one_axis = replace(SPLIT, placements=[Placement(1, 3)])
    with pytest.raises(BundleError, match="p: 'x': expected a placement for each of 2 mesh axes, seen 1"):
        check_program_fits(replace(PROGRAM, inputs=[ProgramInput("x", 0, one_axis, "step")]), manifest, "p")
    on_rows = replace(SPLIT, placements=[Placement(1, 3), None])
    with pytest.raises(BundleError, match="p: 'x': 1 devices hold 3 of the 6 positions of dim 1"):
        check_program_fits(replace(PROGRAM, inputs=[ProgramInput("x", 0, on_rows, "step")]), manifest, "p")


def test_a_device_may_hold_nothing_but_padding(manifest: Manifest) -> None:
    wide = replace(manifest, mesh=[1, 4], weights=[])
    check_program_fits(replace(PROGRAM, mesh=[1, 4], weights=[]), wide, "p")


def test_a_weight_has_a_file_or_shards(manifest: Manifest) -> None:
    file = replace(manifest.files[1], path=tensor_path("0" * 64), blake3="0" * 64)
    files = edited(replace(manifest, files=[*manifest.files, file]), "weights", 1, shards=[0, 1])
    with pytest.raises(BundleError, match="m: weight 'scale': expected shards in a bundle for torch, seen a file"):
        check_manifest(edited(files, "weights", 0, file=3, shards=[], dtype="bfloat8_b"), "m")
    settings = {"mesh_settings": MeshSettings("wormhole_b0", "1d", 0, 0), "weights_dtype": "bfloat8_b"}
    chips = replace(files, target="ttnn", ttnn="0.1", **settings)
    check_manifest(edited(chips, "weights", 0, file=3, shards=[], dtype="bfloat8_b"), "m")
    with pytest.raises(BundleError, match=r"m: weight 'scale': expected a file or shards, seen both, 3 and \[0, 1\]"):
        check_manifest(edited(files, "weights", 0, file=3), "m")


@pytest.fixture
def for_chips(manifest: Manifest) -> Manifest:
    """The sample as if it were for ttnn."""
    settings = MeshSettings("wormhole_b0", "1d", 0, 0)
    dtypes = {"dtype": "bfloat16", "weights_dtype": "bfloat16", "links_dtype": "bfloat8_b"}
    return replace(manifest, target="ttnn", mesh_settings=settings, ttnn="0.1", **dtypes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "torch"}, "m: mesh_settings: seen MeshSettings("),
        ({"mesh_settings": None}, "m: mesh_settings: seen nothing in a bundle for ttnn"),
        (
            {"mesh_settings": MeshSettings("grayskull", "1d", 0, 0)},
            "unknown arch 'grayskull', expected one of wormhole",
        ),
        ({"ttnn": ""}, "m: ttnn: seen nothing in a bundle for ttnn"),
        ({"weights_dtype": "float32"}, "m: weights_dtype: expected one of bfloat16, bfloat8_b, seen float32"),
        ({"links_dtype": "int32"}, "m: links_dtype: expected one of bfloat16, bfloat8_b, seen int32"),
        ({"links_dtype": "bfloat9"}, "m: unknown dtype 'bfloat9'"),
        ({"weights_dtype": "bfloat8_b"}, "m: weights_dtype: seen bfloat8_b, and weights of other dtypes only"),
    ],
)
def test_what_a_bundle_for_chips_says(for_chips: Manifest, changes: dict[str, Any], message: str) -> None:
    check_manifest(for_chips, "m")
    with pytest.raises(BundleError) as error:
        check_manifest(replace(for_chips, **changes), "m")
    assert message in str(error.value)


def test_what_a_bundle_for_torch_does_not_say(manifest: Manifest) -> None:
    for changes, message in (
        ({"target": "ttnn"}, "m: mesh_settings: seen nothing in a bundle for ttnn"),
        ({"ttnn": "0.1"}, "m: ttnn: seen '0.1' in a bundle for torch"),
        ({"weights_dtype": "bfloat16"}, "m: weights_dtype: expected one of float32, seen bfloat16"),
        ({"weights_dtype": "float8"}, "m: weights_dtype: expected one of float32, seen float8"),
        ({"links_dtype": "bfloat16"}, "m: links_dtype: expected float32 as dtype is, seen bfloat16"),
    ):
        with pytest.raises(BundleError) as error:
            check_manifest(replace(manifest, **changes), "m")
        assert message in str(error.value)


def test_float8_is_said_where_it_is(manifest: Manifest) -> None:
    """For torch, beside bfloat16; of weights, and never of what programs are given or give."""
    narrow = replace(manifest, dtype="bfloat16", weights_dtype="float8", links_dtype="bfloat16")
    with pytest.raises(BundleError, match="m: weights_dtype: seen float8, and weights of other dtypes only"):
        check_manifest(narrow, "m")
    nbytes = manifest.shards[manifest.weights[0].shards[0]].nbytes
    held = edited(narrow, "weights", 0, dtype="float8", local_shape=[nbytes])
    check_manifest(held, "m")
    with pytest.raises(BundleError, match=r"m: weights_dtype: seen bfloat16, and weights of \['float8'\]"):
        check_manifest(replace(held, weights_dtype="bfloat16"), "m")
    given = PROGRAM.inputs[0]
    program = replace(PROGRAM, inputs=[replace(given, spec=replace(given.spec, dtype="float8"))])
    with pytest.raises(BundleError, match=f"p: '{given.name}': float8 in a bundle for torch"):
        check_program_fits(program, manifest, "p")


def test_kernels_are_for_the_same_ttnn(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache")
    path = write_kernel_bundle(tmp_path / "b", tmp_path / "cache", KERNELS)
    manifest = Bundle.open(path).manifest
    with pytest.raises(BundleError, match=r"m: ttnn: seen '0\.2', and kernels for '0\.1'"):
        check_manifest(replace(manifest, ttnn="0.2"), "m")


def test_shards_are_those_that_a_file_was_named_by(manifest: Manifest) -> None:
    """And each is a weight's."""
    files = r"m: the shards of weights/[0-9a-f]{64}\.bin are others than its hash says"
    for changes in ({"blake3": "0" * 64}, {"offset": 12288}):
        with pytest.raises(BundleError, match=files if "blake3" in changes else "ends at byte|others than"):
            check_manifest(edited(manifest, "shards", 1, **changes), "m")
    with pytest.raises(BundleError, match=r"m: shards \[1\] are of no weight"):
        check_manifest(edited(manifest, "weights", 0, shards=[0, 0]), "m")


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"local_shape": [3, 4]}])
def test_a_weight_is_what_the_program_reads(manifest: Manifest, changes: dict[str, Any]) -> None:
    program = replace(PROGRAM, weights=[replace(PROGRAM.weights[0], **changes)])
    with pytest.raises(BundleError, match=r"p: reads the weight 'scale' as .*, and the bundle holds float32 \[4, 3\]"):
        check_program_fits(program, manifest, "p")


def test_a_program_is_for_the_bundles_mesh(manifest: Manifest) -> None:
    with pytest.raises(BundleError, match=r"p: is for the mesh \[2, 1\], and the bundle for \[1, 2\]"):
        check_program_fits(replace(PROGRAM, mesh=[2, 1]), manifest, "p")


def test_replicas_share_a_shard(manifest: Manifest) -> None:
    check_manifest(edited(manifest, "weights", 0, shards=[1, 1]), "m")
    assert Weight("copy", "float32", [4, 3], [0, 0]) in manifest.weights
