import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mochi_aot.artifacts import Bundle, BundleError, BundleWriter
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.layout import ALIGNMENT, FileGroup
from mochi_aot.artifacts.schema import Geometry, Instruction, ProgramWeight, Weight
from mochi_aot.artifacts.validate import check_manifest
from tests.artifacts.samples import LEFT, PROGRAM, fill, finish_for_chips, finish_for_torch, write_bundle

FIELDS: dict[str, Any] = {
    "target": "torch",
    "mesh": [1, 1],
    "dtype": "float32",
    "step_capacity": 1,
    "text_length": 1,
    "model": {},
    "checkpoint": {},
    "versions": {},
    "geometries": [Geometry(16, 16, 7, {})],
    "created_by": "test",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_input_gives_the_same_bytes_and_id_anywhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first, second = tmp_path / "a", tmp_path / "elsewhere" / "b"
    assert write_bundle(first) == write_bundle(second) == Bundle.open(first).id
    assert contents(first) == contents(second)
    assert write_bundle(tmp_path / "c", created_by="another") != Bundle.open(first).id


def test_the_id_does_not_depend_on_the_order_of_free_maps(tmp_path: Path) -> None:
    ids = []
    for name, keys in (("a", "xyz"), ("b", "zyx")):
        with BundleWriter(tmp_path / name) as writer:
            ids.append(writer.finish(**{**FIELDS, "versions": dict.fromkeys(keys, "1")}))
    assert ids[0] == ids[1]


def test_a_relative_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with BundleWriter("b") as writer:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        fill(writer)
    assert Bundle.open(tmp_path / "b").manifest.target == "torch"


def test_equal_bytes_are_written_once(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        assert [writer.add_shard(LEFT), writer.add_shard(LEFT.tobytes()), writer.add_shard(LEFT + 1)] == [0, 0, 1]
        assert writer.add_program(PROGRAM) == writer.add_program(replace(PROGRAM))
        assert writer.add_program(replace(PROGRAM, plan="other")) != writer.add_program(PROGRAM)
        writer.add_weight(Weight("scale", "float32", [4, 3], [0, 1]))
        writer.finish(**{**FIELDS, "mesh": [1, 2]})
    bundle = Bundle.open(tmp_path / "b")
    assert [shard.offset for shard in bundle.manifest.shards] == [0, ALIGNMENT]
    assert sorted(file.path.split("/")[0] for file in bundle.manifest.files) == ["programs", "programs", "weights"]


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=12), limit=st.sampled_from([1, 4096, 10_000, 1 << 20]))
def test_files_stay_within_the_limit_and_shards_read_back(
    sizes: list[int], limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("weights") / "b"
    # Each content has its own first byte, so that all differ.
    data = [bytes([index]) + bytes([7]) * (size - 1) for index, size in enumerate(sizes)]
    with BundleWriter(path, file_bytes=limit) as writer:
        for index, piece in enumerate(data):
            writer.add_weight(Weight(f"w{index}", "uint8", [len(piece)], [writer.add_shard(piece)]))
        writer.finish(**FIELDS)
    bundle = Bundle.open(path)
    bundle.verify()
    assert [bundle.shard_bytes(index).tobytes() for index in range(len(data))] == data
    for index, file in enumerate(bundle.manifest.files):
        shards = [shard for shard in bundle.manifest.shards if shard.file == index]
        assert file.nbytes <= limit or len(shards) == 1
    places = [(shard.file, shard.offset) for shard in bundle.manifest.shards]
    assert places == sorted(places)  # in the order added


def written(path: Path, tuned: bytes, reuse: Bundle | None = None) -> Bundle:
    """Two weights with files of their own, two small ones and a constant, each of two pieces; the second is `tuned`."""
    groups = {"a": FileGroup.OWN, "small": FileGroup.SMALL, "b": FileGroup.OWN, "c": FileGroup.CONSTANT}
    groups["little"] = FileGroup.SMALL
    contents = {name: [f"{name}{piece}".encode() * 5000 for piece in range(2)] for name in groups}
    contents["b"] = [tuned, tuned[::-1]]
    with BundleWriter(path, reuse=reuse) as writer:
        for name, group in groups.items():
            source = f"{name}:{hash_bytes(b''.join(contents[name]))}"
            if (made := writer.reusable.find(source)) is not None:
                writer.add_reusable(made, group)
                continue
            shards = [writer.add_shard(data, group=group) for data in contents[name]]
            writer.add_weight(Weight(name, "uint8", [len(contents[name][0])], shards, None, source))
        writer.finish(**{**FIELDS, "mesh": [1, 2]})
    bundle = Bundle.open(path)
    bundle.verify()
    return bundle


def test_what_is_not_tuned_is_linked(tmp_path: Path) -> None:
    """Only the file of the weight that is another is written, and the bundle is the one without reuse."""
    base = written(tmp_path / "base", b"x" * 7000 + b"y")
    held = [{w.name for w in base.manifest.weights if any(s.file == f for s in base.parts(w.name))} for f in range(4)]
    assert held == [{"a"}, {"small", "little"}, {"b"}, {"c"}]
    style = written(tmp_path / "style", b"z" * 7000 + b"y", reuse=base)
    assert style.id == written(tmp_path / "fresh", b"z" * 7000 + b"y").id != base.id
    links = [(style.path / file.path).stat().st_nlink for file in style.manifest.files]
    assert links == [2, 2, 1, 2]


def test_equal_tensor_files_are_kept_once(tmp_path: Path) -> None:
    """The writer gives the path and the name; what is in the file is not its business."""
    with BundleWriter(tmp_path / "b") as writer:
        files = [writer.add_tensor_file(lambda path, data=data: path.write_bytes(data)) for data in (b"a", b"b", b"a")]
        assert files == [0, 1, 0]
        for index, file in enumerate(files):
            writer.add_weight(Weight(f"w{index}", "bfloat8_b", [32, 32], [], file))
        writer.add_weight(Weight("shards", "uint8", [1], [writer.add_shard(b"a")] * 2))
        finish_for_chips(writer, weights_dtype="bfloat8_b", ttnn="0.1")
    bundle = Bundle.open(tmp_path / "b")
    bundle.verify()
    paths = [bundle.tensor_file(f"w{index}") for index in range(3)]
    assert [path.read_bytes() for path in paths if path] == [b"a", b"b", b"a"]
    assert paths[0] == paths[2] and [path.suffix for path in paths if path] == [".tensorbin"] * 3
    assert bundle.tensor_file("shards") is None
    assert sorted(path.suffix for path in (tmp_path / "b" / "weights").iterdir()) == [
        ".bin",
        ".tensorbin",
        ".tensorbin",
    ]


def test_a_tensor_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def fill_disk(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BundleError, match="No space left on device"), BundleWriter(tmp_path / "b") as writer:
        writer.add_tensor_file(fill_disk)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_is_not_contiguous_is_the_callers_error(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer, pytest.raises((TypeError, ValueError)):
        writer.add_shard(np.zeros((4, 4), np.float32)[:, :2])


def test_a_bundle_without_weights_has_no_such_folder(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        writer.finish(**FIELDS)
    assert list(contents(tmp_path / "b")) == ["manifest.msgpack"]
    Bundle.open(tmp_path / "b").verify()


def test_an_existing_bundle_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "b"
    old = write_bundle(path)
    with pytest.raises(BundleError, match=r"b exists; choose another path, or use --force to replace a bundle"):
        write_bundle(path)
    assert Bundle.open(path).id == old
    new = write_bundle(path, force=True, created_by="another")
    assert Bundle.open(path).id == new != old
    assert [found.name for found in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("finished", [False, True])
def test_an_interruption_leaves_the_disk_as_it_was(
    tmp_path: Path, error: type[BaseException], finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any moment: while shards are written, and in the middle of the final sync over an old bundle."""
    path = tmp_path / "b"
    write_bundle(path)
    before = contents(tmp_path)

    def interrupt(*_: object) -> None:
        raise error

    with pytest.raises(error), BundleWriter(path, force=True) as writer:
        writer.add_shard(LEFT)
        if finished:
            monkeypatch.setattr(os, "fsync", interrupt)
            fill(writer, created_by="another")
        raise error
    assert contents(tmp_path) == before
    assert [found.name for found in tmp_path.iterdir()] == ["b"]


def test_leaving_without_finish_leaves_nothing(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        writer.add_program(PROGRAM)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match=rf"^cannot write {tmp_path}/b: No space left on device$"):
        write_bundle(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, signal, sys
from mochi_aot.artifacts import BundleError, BundleWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
try:
    with BundleWriter(sys.argv[1]) as writer:
        for value in range(20):
            writer.add_shard(bytes([value]) * 1_000_000)
except BundleError as error:
    print(error)
"""


def test_a_weight_file_that_the_system_stops_is_one_line(tmp_path: Path) -> None:
    """The kernel's own limit on a file's size stands in for a full disk: the write is cut short, then refused."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {tmp_path}/b: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_bad_programs_are_refused_when_added(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        broken = replace(PROGRAM, instructions=[Instruction("add", [9], [3], {}, [], "")])
        with pytest.raises(BundleError, match=r"program 'denoise': instruction 0 \(add\): uses value 9 before it is"):
            writer.add_program(broken)
        with pytest.raises(BundleError, match=r"program 'denoise': plan: expected str, seen nothing"):
            writer.add_program(replace(PROGRAM, plan=None))  # type: ignore[arg-type]


def test_the_writer_runs_the_readers_checks(tmp_path: Path) -> None:
    with (
        pytest.raises(BundleError, match="program 'denoise': reads the weight 'scale', which"),
        BundleWriter(tmp_path / "a") as writer,
    ):
        writer.add_program(replace(PROGRAM, inputs=PROGRAM.inputs))
        writer.finish(**{**FIELDS, "mesh": [1, 2]})
    with pytest.raises(BundleError, match="manifest: weight 'w': shard 0 of 0"), BundleWriter(tmp_path / "b") as writer:
        writer.add_weight(Weight("w", "float32", [1], [0]))
        writer.finish(**FIELDS)
    with (
        pytest.raises(BundleError, match="manifest: mesh: expected list, seen tuple"),
        BundleWriter(tmp_path / "c") as writer,
    ):
        writer.finish(**{**FIELDS, "mesh": (1, 1)})
    with pytest.raises(BundleError, match="devices hold 3 of the 6 positions"), BundleWriter(tmp_path / "d") as writer:
        writer.add_program(replace(PROGRAM, mesh=[1, 1], weights=[ProgramWeight("w", 1, "float32", [4, 3])]))
        writer.add_weight(Weight("w", "float32", [4, 3], [writer.add_shard(LEFT)]))
        writer.finish(**FIELDS)
    assert list(tmp_path.iterdir()) == []


def test_notices_are_files_by_their_hash(tmp_path: Path) -> None:
    """Equal ones once, empty ones not at all; what a manifest says of them must hold."""
    with BundleWriter(tmp_path / "b") as writer:
        for name in ("LICENSE", "dit/LICENSE"):
            writer.add_notice(name, b"be kind")
        writer.add_notice("NOTICE", b"")
        writer.add_notice("README.md", b"# Card")
        finish_for_torch(writer)
    bundle = Bundle.open(tmp_path / "b")
    assert {name: bundle.notice(name) for name in bundle.manifest.notices} == {
        "LICENSE": b"be kind",
        "dit/LICENSE": b"be kind",
        "README.md": b"# Card",
    }
    assert sorted(path.read_bytes() for path in (tmp_path / "b/notices").iterdir()) == [b"# Card", b"be kind"]
    for notices in ({"LICENSE": 0}, {"LICENSE": 0, "README.md": 9}, {f"n{index}": 0 for index in range(33)}):
        with pytest.raises(BundleError, match="notice"):
            check_manifest(replace(bundle.manifest, notices=notices), "m")
    (tmp_path / "b/notices").rename(tmp_path / "gone")
    with pytest.raises(BundleError, match="is missing"):
        Bundle.open(tmp_path / "b")
