"""docs/format.md against the code, byte by byte: a bundle written by hand is read, and a written one taken apart."""

from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
from blake3 import blake3

from mochi_aot.artifacts import Bundle, schema, tokenizer_limits
from mochi_aot.artifacts.dtypes import BLOCK_DTYPES, DTYPES
from mochi_aot.artifacts.layout import ARCHITECTURES, FABRICS, FORMAT_VERSION, LAYOUTS
from mochi_aot.artifacts.limits import (
    MAX_DEVICES,
    MAX_ELEMENTS,
    MAX_HOST_ELEMENTS,
    MAX_PIXELS,
    MAX_RANK,
    MAX_STEP_CAPACITY,
    MAX_STRING_BYTES,
    MAX_TENSOR_ELEMENTS,
    MAX_TEXT_LENGTH,
)
from mochi_aot.artifacts.roles import RATES, ROLES
from tests.artifacts.samples import KERNELS, LEFT, RIGHT, TOKENIZER, write_cache, write_kernel_bundle

PAGE = Path(__file__).parents[2].joinpath("docs", "format.md").read_text()


def text(value: str) -> bytes:
    """msgpack's str of 32 to 255 bytes, or its shorter form below that."""
    data = value.encode()
    return (bytes([0xA0 + len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])) + data


def sealed(array: bytes) -> bytes:
    """With the SHA-256 of itself behind it."""
    return array + sha256(array).digest()


def opened(path: Path) -> Any:
    """What the array of a file holds."""
    data = path.read_bytes()
    assert data[-32:] == sha256(data[:-32]).digest()
    return msgpack.unpackb(data[:-32])


# One program: the output is the input plus a bfloat16 weight [2]. 0x80+n: map of n, 0x90+n: list of n, 0xC0: nothing.
SPEC = (
    b"\x85\xa5dtype\xa8bfloat16\xa5shape\x91\x02\xablocal_shape\x91\x02\xaaplacements\x92\xc0\xc0"
    b"\xa6layout\xa9row_major"
)
PROGRAM = sealed(
    b"\x93\xb1mochi-aot program\x04"
    b"\x88\xa4name\xa6decode\xa4mesh\x92\x01\x01\xa4plan\xa4none"
    b"\xa6inputs\x91\x84\xa4name\xa7latents\xa5value\x00\xa4spec" + SPEC + b"\xa4rate\xa6latent"
    b"\xa7weights\x91\x84\xa4name\xa1w\xa5value\x01\xa5dtype\xa8bfloat16\xablocal_shape\x91\x02"
    b"\xa7outputs\x91\x83\xa4name\xa6frames\xa5value\x02\xa4spec" + SPEC + b"\xacinstructions\x91\x86"
    b"\xa2op\xa3add\xa8operands\x92\x00\x01\xa7results\x91\x02\xa5attrs\x80\xa4free\x91\x00\xa3loc\xa6a.py:1"
    b"\xa5stats\x84\xa5flops\x02\xacweight_bytes\x04\xb0collective_bytes\x00\xabcollectives\x80"
)
ONE_AND_TWO = b"\x80\x3f\x00\x40"  # bfloat16 1.0 (0x3F80) and 2.0 (0x4000), low byte first
PROGRAM_HASH, SHARD_HASH = blake3(PROGRAM).hexdigest(), blake3(ONE_AND_TWO).hexdigest()
WEIGHT_HASH = blake3(f"0 4 {SHARD_HASH}\n".encode()).hexdigest()  # of the list of shards
MANIFEST = sealed(
    b"\x93\xb0mochi-aot bundle\x04"
    b"\xde\x00\x14\xaeformat_version\x04\xa6target\xa5torch\xa4mesh\x92\x01\x01\xadmesh_settings\xc0\xa4ttnn\xa0\xa5dtype\xa8bfloat16"
    b"\xadweights_dtype\xa8bfloat16\xablinks_dtype\xa8bfloat16"
    b"\xadstep_capacity\x40\xabtext_length\xcd\x01\x00\xa5model\x80\xaacheckpoint\x80\xa8versions\x80"
    b"\xaageometries\x91\x85\xa6height\x10\xa5width\x20\xa6frames\x07\xa8programs\x81\xa6decode\x00"
    b"\xaadram_peaks\x80"
    b"\xa7weights\x91\x86\xa4name\xa1w\xa5dtype\xa8bfloat16\xablocal_shape\x91\x02\xa6shards\x91\x00\xa4file\xc0\xa6source\xa0"
    b"\xa6shards\x91\x84\xa4file\x01\xa6offset\x00\xa6nbytes\x04\xa6blake3" + text(SHARD_HASH) + b"\xa5files\x92"
    b"\x83\xa4path" + text(f"programs/{PROGRAM_HASH}.msgpack") + b"\xa6nbytes"
    b"\xcd" + len(PROGRAM).to_bytes(2, "big") + b"\xa6blake3" + text(PROGRAM_HASH) + b"\x83"
    b"\xa4path" + text(f"weights/{WEIGHT_HASH}.bin") + b"\xa6nbytes\x04\xa6blake3" + text(WEIGHT_HASH) + b"\xa7"
    b"kernels\xc0\xa7notices\x80\xaacreated_by\xa4hand"
)


def test_a_bundle_written_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "manifest.msgpack").write_bytes(MANIFEST)
    (tmp_path / f"programs/{PROGRAM_HASH}.msgpack").write_bytes(PROGRAM)
    (tmp_path / f"weights/{WEIGHT_HASH}.bin").write_bytes(ONE_AND_TWO)
    bundle = Bundle.open(tmp_path)
    bundle.verify()
    assert bundle.id == sha256(MANIFEST).hexdigest()
    assert (bundle.manifest.step_capacity, bundle.manifest.text_length, bundle.manifest.created_by) == (64, 256, "hand")
    program = bundle.program("decode", bundle.manifest.geometries[0])
    assert program.instructions == [schema.Instruction("add", [0, 1], [2], {}, [0], "a.py:1")]
    assert program.inputs[0].spec == schema.TensorSpec("bfloat16", [2], [2], [None, None])
    assert bundle.shard_bytes(bundle.weights["w"].shards[0]) == ONE_AND_TWO


def test_the_written_manifest_taken_apart(bundle_path: Path) -> None:
    data = (bundle_path / "manifest.msgpack").read_bytes()
    magic, version, manifest = opened(bundle_path / "manifest.msgpack")
    assert (magic, version) == ("mochi-aot bundle", 4)
    assert data.startswith(b"\x93\xb0mochi-aot bundle\x04\xde\x00\x14\xaeformat_version\x04")
    assert list(manifest) == [field.name for field in fields(schema.Manifest)]
    for file in manifest["files"]:
        content = (bundle_path / file["path"]).read_bytes()
        if file["path"].startswith("weights/"):
            listed = [(s["offset"], s["nbytes"], s["blake3"]) for s in manifest["shards"]]
            content_hash = blake3("".join(f"{o} {n} {h}\n" for o, n, h in listed).encode()).hexdigest()
        else:
            content_hash = blake3(content).hexdigest()
        assert (file["nbytes"], file["blake3"]) == (len(content), content_hash)
        assert file["blake3"] in file["path"] or file["path"] == "tokenizer/tokenizer.json"
    assert manifest["geometries"] == [
        {"height": 16, "width": 32, "frames": 7, "programs": {"denoise": 0}, "dram_peaks": {}}
    ]
    assert manifest["weights"][0] == {
        "name": "scale",
        "dtype": "float32",
        "local_shape": [4, 3],
        "shards": [0, 1],
        "file": None,
        "source": "",
    }


def test_the_written_weights_taken_apart(bundle_path: Path) -> None:
    manifest = opened(bundle_path / "manifest.msgpack")[2]
    (path,) = (bundle_path / "weights").iterdir()
    half = b"\x80\x3f\x00\x00"
    gap = bytes(4096 - LEFT.nbytes)
    assert path.read_bytes() == LEFT.tobytes() + gap + RIGHT.tobytes() + gap + half
    expected = [(0, LEFT.tobytes()), (4096, RIGHT.tobytes()), (8192, half)]
    for shard, (offset, content) in zip(manifest["shards"], expected, strict=True):
        assert shard == {
            "file": 1,
            "offset": offset,
            "nbytes": len(content),
            "blake3": blake3(content).hexdigest(),
        }


def test_the_written_program_taken_apart(bundle_path: Path) -> None:
    (path,) = (bundle_path / "programs").iterdir()
    magic, version, program = opened(path)
    assert (magic, version) == ("mochi-aot program", 4)
    assert list(program) == [field.name for field in fields(schema.Program)]
    assert program["instructions"][1] == {
        "op": "all_gather",
        "operands": [2],
        "results": [3],
        "attrs": {"axis": 1, "dim": 1, "size": 6},
        "free": [2],
        "loc": "dit.py:8",
    }
    assert program["inputs"][0]["spec"]["placements"] == [None, {"dim": 1, "chunk": 3}]


def test_the_tokenizer_is_copied(bundle_path: Path) -> None:
    assert (bundle_path / "tokenizer" / "tokenizer.json").read_bytes() == TOKENIZER


def test_the_kernels_taken_apart(tmp_path: Path) -> None:
    needed = write_cache(tmp_path / "cache")
    path = write_kernel_bundle(tmp_path / "b", tmp_path / "cache", KERNELS)
    manifest = opened(path / "manifest.msgpack")[2]
    assert manifest["mesh_settings"] == {
        "arch": "wormhole_b0",
        "fabric": "1d",
        "l1_small_bytes": 32768,
        "trace_bytes": 0,
    }
    assert manifest["kernels"] == {
        "file": 0,
        "count": 1,
        "stand_in": True,
        "ttnn": "0.1",
        "compiler": "g++ 1",
        "root": "/root",
        "build_keys": ["key1"],
    }
    data = (path / manifest["files"][0]["path"]).read_bytes()
    assert manifest["files"][0]["path"] == f"kernels/{blake3(data).hexdigest()}.tar"
    # POSIX's header of a member: name, mode, owner, group, size and time in octal; contents are filled up to 512 bytes.
    assert data[: len(needed[0]) + 1] == needed[0].encode() + b"\0"
    assert data[108:156] == b"0000000\0" * 2 + b"00000000002\0" + b"00000000000\0" + data[148:156]
    assert data[257:263] == b"ustar\0"
    assert data[512:1024] == b"77" + bytes(510)


def test_the_page_names_every_field_role_rate_layout_and_dtype() -> None:
    for kind in vars(schema).values():
        if isinstance(kind, type) and kind.__module__ == schema.__name__:
            for field in fields(kind):
                assert f"`{field.name}`" in PAGE, f"{kind.__name__}.{field.name}"
    for name in (*ROLES, *RATES, *LAYOUTS, *FABRICS, *ARCHITECTURES, *BLOCK_DTYPES):
        assert f"`{name}`" in PAGE, name
    for dtype in DTYPES.values():
        assert f"| `{dtype.name}` | {dtype.itemsize} |" in PAGE
    assert f"version {FORMAT_VERSION}\n" in PAGE
    assert f"| str | {MAX_STRING_BYTES >> 10} KiB, of one line" in PAGE
    bounds = (
        MAX_RANK,
        MAX_TENSOR_ELEMENTS,
        MAX_HOST_ELEMENTS,
        MAX_DEVICES,
        MAX_TEXT_LENGTH,
        MAX_STEP_CAPACITY,
        MAX_PIXELS,
    )
    rank, *powers = (bound if bound < 99 else f"2^{bound.bit_length() - 1}" for bound in bounds)
    assert f"its elements | {rank}; {powers[0]}, of what the host gives {powers[1]} |" in PAGE
    assert f"pixels of all frames | {'; '.join(map(str, powers[2:]))} |" in PAGE
    assert f"lists and maps included | 2^{MAX_ELEMENTS.bit_length() - 1} |" in PAGE
    assert f"tokenizer | {tokenizer_limits.MAX_BYTES >> 20} MiB; " in PAGE
