"""What the disk gives: how much is read, and what is said of a disk that does not say."""

from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts import Bundle
from mochi_aot.tools.benchmarks.host_memory import touch_memory
from mochi_aot.tools.benchmarks.raw_reads import RawRead, read_raw
from mochi_aot.tools.commands import read_limit
from tests.runtime import toy_bundle

BLOCK = 8 << 20


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[0].write_bytes(bytes(2 * BLOCK + 5000))
    paths[1].write_bytes(bytes(100))
    return paths


@pytest.mark.parametrize("direct", [False, True])
def test_all_or_the_first_blocks(files: list[Path], direct: bool) -> None:
    assert read_raw(files, direct).nbytes == 2 * BLOCK + 5100
    assert read_raw(files, direct, most=BLOCK + 1).nbytes == 2 * BLOCK
    assert read_raw(files, direct).seconds > 0


def test_files_past_the_most_are_not_opened(files: list[Path]) -> None:
    assert (
        read_raw([*files, files[0].with_name("absent")], direct=False, most=2 * BLOCK + 5001).nbytes == 2 * BLOCK + 5100
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_raw([tmp_path / "absent"], direct=False)
    with pytest.raises(IsADirectoryError):
        (tmp_path / "folder").mkdir()
        read_raw([tmp_path / "folder"], direct=False)


def test_the_limit_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    asked: list[int | None] = []

    def read(paths: list[Path], direct: bool, most: int | None) -> RawRead:
        assert all(path.parent.name == "weights" for path in paths) and direct
        asked.append(most)
        return RawRead(1000, 0.5)

    monkeypatch.setattr(read_limit, "read_raw", read)
    assert read_limit.read_limit(bundle, 100 << 20) is None and asked == []
    assert read_limit.read_limit(bundle, 16 * 20 << 20) == 2000.0
    assert read_limit.read_limit(bundle, 1 << 40) == 2000.0
    assert asked == [20 << 20, 512 << 20]


def test_a_disk_without_direct_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> RawRead:
        raise OSError("Invalid argument")

    monkeypatch.setattr(read_limit, "read_raw", refuse)
    toy_bundle.write_bundle(tmp_path / "bundle")
    assert read_limit.read_limit(Bundle.open(tmp_path / "bundle"), 1 << 40) is None


def test_touching_memory() -> None:
    assert np.isfinite(touch_memory(4 << 20)) and touch_memory(4096) > 0
