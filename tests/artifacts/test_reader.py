import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgpack
import numpy as np
import pytest

from mochi_aot.artifacts import Bundle, BundleError, BundleWriter
from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.artifacts.layout import MANIFEST_PATH
from mochi_aot.artifacts.schema import Geometry, Weight
from tests.artifacts.samples import LEFT, PROGRAM, RIGHT, TOKENIZER, finish_for_torch, write_tensor_bundle


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_everything_written_reads_back(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    assert bundle.manifest.model == {"dit": {"layers": 2, "widths": [1, 2.5, None, True]}}
    assert list(bundle.weights) == ["scale", "copy", "half"]
    assert bundle.program("denoise", bundle.manifest.geometries[0]) == PROGRAM
    assert bundle.tokenizer() == TOKENIZER
    left, right = bundle.weights["scale"].shards
    assert bundle.weights["copy"] == Weight("copy", "float32", [4, 3], [left, left])
    assert bundle.shard_bytes(left) == LEFT.tobytes() and bundle.shard_bytes(right) == RIGHT.tobytes()
    half = np.frombuffer(bundle.shard_bytes(bundle.weights["half"].shards[0]), DTYPES["bfloat16"].storage)
    assert half.tolist() == [0x3F80, 0]
    bundle.verify()


def test_shard_bytes_are_read_only_views(bundle_path: Path) -> None:
    view = Bundle.open(str(bundle_path)).shard_bytes(0)
    with pytest.raises(TypeError):
        view[0] = 1


def test_a_bundle_may_be_moved_and_hold_other_files(bundle_path: Path, tmp_path: Path) -> None:
    bundle_id = Bundle.open(bundle_path).id
    moved = bundle_path.rename(tmp_path / "moved")
    (moved / "notes.txt").write_text("mine")
    assert Bundle.open(moved).id == bundle_id


def test_a_program_is_loaded_once(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    geometry = bundle.manifest.geometries[0]
    assert bundle.program("denoise", geometry) is bundle.program("denoise", geometry)


def test_a_role_or_tokenizer_that_is_not_there(bundle_path: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    with pytest.raises(BundleError, match=r"sample.bundle: no program 'encode'; it has denoise$"):
        bundle.program("encode", bundle.manifest.geometries[0])
    manifest = msgpack.unpackb((bundle_path / MANIFEST_PATH).read_bytes()[:-32])
    manifest[2]["files"] = [file for file in manifest[2]["files"] if not file["path"].startswith("tokenizer")]
    array = msgpack.packb(manifest)
    (bundle_path / MANIFEST_PATH).write_bytes(array + sha256(array).digest())
    with pytest.raises(BundleError, match=r"holds no tokenizer; give prompt embeddings"):
        Bundle.open(bundle_path).tokenizer()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: shutil.rmtree(path), "sample.bundle does not exist; expected the folder of a bundle"),
        (lambda path: (shutil.rmtree(path), path.write_text("")), "sample.bundle is a file; expected the folder of"),
        (lambda path: (path / MANIFEST_PATH).unlink(), "sample.bundle has no manifest.msgpack; expected a bundle"),
        (
            lambda path: (path / MANIFEST_PATH).rename(path / "delta.msgpack"),
            "sample.bundle is a delta, not a bundle: mochi-run BASE --delta",
        ),
        (lambda path: (path / MANIFEST_PATH).write_text("{}"), "expected to begin with 'mochi-aot bundle'"),
        (lambda path: (path / MANIFEST_PATH).write_bytes(b""), "cut short after 0 bytes; copy or compile"),
    ],
)
def test_what_is_not_a_bundle(bundle_path: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(bundle_path)
    with pytest.raises(BundleError) as error:
        Bundle.open(bundle_path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_truncated_manifest(bundle_path: Path) -> None:
    manifest = bundle_path / MANIFEST_PATH
    data = manifest.read_bytes()
    manifest.write_bytes(data[:-1])
    with pytest.raises(
        BundleError, match=rf"manifest.msgpack: {len(data) - 1} bytes that do not match the SHA-256 at their end"
    ):
        Bundle.open(bundle_path)


def test_another_version_is_named_before_anything_else(bundle_path: Path) -> None:
    (bundle_path / MANIFEST_PATH).write_bytes(msgpack.packb(["mochi-aot bundle", 7, {"all": "different"}]))
    shutil.rmtree(bundle_path / "weights")
    with pytest.raises(BundleError, match=r"format version 7, this mochi-aot reads version 4; compile the checkpoint"):
        Bundle.open(bundle_path)


@pytest.mark.parametrize("folder", ["weights", "programs", "tokenizer"])
def test_missing_short_and_long_files_are_named_with_their_sizes(bundle_path: Path, folder: str) -> None:
    path = only(bundle_path / folder)
    data = path.read_bytes()
    for changed in (data[:-1], data + b"x"):
        path.write_bytes(changed)
        with pytest.raises(BundleError, match=rf"{path.name}: expected {len(data)} bytes, seen {len(changed)}; copy"):
            Bundle.open(bundle_path)
    path.unlink()
    with pytest.raises(BundleError, match=rf"{path.name} is missing, expected {len(data)} bytes; copy or compile"):
        Bundle.open(bundle_path)
    path.mkdir()
    with pytest.raises(BundleError, match=rf"{path.name} is missing"):
        Bundle.open(bundle_path)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_changed_program_is_found_when_it_is_loaded(bundle_path: Path) -> None:
    path = only(bundle_path / "programs")
    flip(path, -1)
    bundle = Bundle.open(bundle_path)
    with pytest.raises(BundleError, match=rf"{path.name}: expected BLAKE3 {path.stem}, seen [0-9a-f]{{64}}; copy or"):
        bundle.program("denoise", bundle.manifest.geometries[0])


def test_a_changed_tokenizer_is_found_when_it_is_loaded(bundle_path: Path) -> None:
    flip(bundle_path / "tokenizer/tokenizer.json", 0)
    with pytest.raises(BundleError, match=r"tokenizer.json: expected BLAKE3"):
        Bundle.open(bundle_path).tokenizer()


@pytest.mark.parametrize(
    ("position", "shard", "names"),
    [(0, "0 to 48", "scale, copy"), (4096, "4096 to 4144", "scale"), (8195, r"8192 to \d+", "half")],
)
def test_verify_names_the_weights_of_a_changed_shard(bundle_path: Path, position: int, shard: str, names: str) -> None:
    flip(only(bundle_path / "weights"), position)
    bundle = Bundle.open(bundle_path)
    with pytest.raises(BundleError, match=rf"\.bin: bytes {shard} of {names} do not match their hash; copy or"):
        bundle.verify()


def test_verify_finds_a_change_between_shards_and_in_small_files(bundle_path: Path) -> None:
    for folder, position, expected in (
        ("weights", 4095, "expected zeros from byte 48 to 4096"),
        ("programs", 40, r"bytes 0 to \d+ do not match"),
        ("tokenizer", 3, r"bytes 0 to \d+ do not match"),
    ):
        path = only(bundle_path / folder)
        flip(path, position)
        with pytest.raises(BundleError, match=rf"{path.name}: {expected}"):
            Bundle.open(bundle_path).verify()
        flip(path, position)
    Bundle.open(bundle_path).verify()


def test_a_weight_file_cut_after_opening_is_an_error_not_a_crash(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    only(bundle_path / "weights").write_bytes(b"")
    with pytest.raises(BundleError, match=r"\.bin: expected 8196 bytes, seen 0"):
        bundle.shard_bytes(0)


def test_a_tensor_file_cut_after_opening_is_an_error(tmp_path: Path) -> None:
    path = write_tensor_bundle(tmp_path / "b")
    bundle = Bundle.open(path)
    only(path / "weights").write_bytes(b"")
    with pytest.raises(BundleError, match=r"\.tensorbin: expected 4 bytes, seen 0"):
        bundle.tensor_file("w")


def test_a_member_that_becomes_a_fifo_after_the_bundle_was_opened_is_not_waited_for(bundle_path: Path) -> None:
    """As if it were exchanged between the check of its kind and its opening: opening a FIFO as a file never ends."""
    bundle = Bundle.open(bundle_path)
    geometry = bundle.manifest.geometries[0]
    for folder in ("weights", "programs", "tokenizer"):
        path = only(bundle_path / folder)
        path.unlink()
        os.mkfifo(path)
    for read in (lambda: bundle.program("denoise", geometry), bundle.tokenizer, lambda: bundle.shard_bytes(0)):
        with pytest.raises(BundleError, match=r"cannot read .*: it is a FIFO, expected a file"):
            read()
    with pytest.raises(BundleError, match="it is a FIFO"):
        bundle.verify()


def test_a_manifest_that_becomes_a_fifo_is_not_waited_for(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle_path / MANIFEST_PATH).unlink()
    os.mkfifo(bundle_path / MANIFEST_PATH)
    monkeypatch.setattr(Path, "is_file", lambda path: True)  # as it was a moment ago
    with pytest.raises(BundleError, match=r"cannot read .*manifest.msgpack: it is a FIFO"):
        Bundle.open(bundle_path)


def test_a_map_whose_file_was_cut_is_not_touched(bundle_path: Path) -> None:
    """Touching it would end the process; another file at its path has no say."""
    bundle = Bundle.open(bundle_path)
    (part,) = bundle.parts("half")
    bundle.check_part(part)
    path = only(bundle_path / "weights")
    whole = path.read_bytes()
    os.truncate(path, 100)
    path.rename(path.with_suffix(".cut"))
    path.write_bytes(whole)
    with pytest.raises(BundleError, match=rf"expected {len(whole)} bytes, seen 100"):
        bundle.check_part(part)


def test_files_may_be_mapped_while_others_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the thread that reads ahead, while the one that runs programs has come to the end of a phase."""
    with BundleWriter(tmp_path / "b", file_bytes=1) as writer:
        for name in "ab":
            writer.add_weight(Weight(name, "uint8", [1], [writer.add_shard(name.encode())] * 2))
        finish_for_torch(writer)
    bundle = Bundle.open(tmp_path / "b")
    bundle.file_bytes(0)
    place, others = Bundle.place, [1]

    def mapping_another(self: Bundle, index: int) -> Path:
        if others:
            self.file_bytes(others.pop())
        return place(self, index)

    monkeypatch.setattr(Bundle, "place", mapping_another)
    bundle.check_unchanged()
    assert not others


def test_verify_reads_each_byte_once(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are read once more, to be validated."""
    read: list[tuple[int, int]] = []
    preadv = os.preadv

    def counted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        count = preadv(descriptor, buffers, offset)
        read.append((os.fstat(descriptor).st_ino, count))
        return count

    monkeypatch.setattr(os, "preadv", counted)
    bundle = Bundle.open(bundle_path)
    bundle.verify()
    expected = {(bundle_path / file.path).stat().st_ino: file.nbytes for file in bundle.manifest.files}
    assert {inode: sum(count for of, count in read if of == inode) for inode in expected} == expected


def test_verify_finds_a_change_in_a_tensor_file(tmp_path: Path) -> None:
    path = write_tensor_bundle(tmp_path / "b")
    flip(only(path / "weights"), 0)
    with pytest.raises(BundleError, match=r"\.tensorbin: bytes 0 to 4 do not match"):
        Bundle.open(path).verify()


def test_a_program_too_large_to_read_is_refused(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(bundle_path)
    monkeypatch.setattr("mochi_aot.artifacts.reader.MAX_METADATA_BYTES", 10)
    with pytest.raises(BundleError, match=r"bytes, expected at most 10"):
        bundle.program("denoise", Geometry(16, 32, 7, {"denoise": 0}))


def test_the_manifest_cannot_lead_out_of_the_bundle(bundle_path: Path) -> None:
    manifest = msgpack.unpackb((bundle_path / MANIFEST_PATH).read_bytes()[:-32])
    manifest[2]["files"][0]["path"] = "../../etc/passwd"
    array = msgpack.packb(manifest)
    (bundle_path / MANIFEST_PATH).write_bytes(array + sha256(array).digest())
    with pytest.raises(BundleError, match=r"files\[0\]: expected one of programs/.*, seen '\.\./\.\./etc/passwd'"):
        Bundle.open(bundle_path)
