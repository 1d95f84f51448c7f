from hashlib import sha256
from pathlib import Path

import pytest

from mochi_aot.artifacts.schema import File
from mochi_aot.artifacts.weight_file import WeightFile


def test_shards_lie_on_pages_with_zeros_between(tmp_path: Path) -> None:
    file = WeightFile(tmp_path)
    assert file.append(memoryview(b"a" * 5)) == 0
    assert file.append(memoryview(b"b" * 4096)) == 4096
    assert file.append(memoryview(b"c")) == 8192
    expected = b"a" * 5 + bytes(4091) + b"b" * 4096 + b"c"
    name = sha256(expected).hexdigest()
    assert file.finish() == File(f"weights/{name}.bin", 8193, name)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [f"{name}.bin"]
    assert (tmp_path / "weights" / f"{name}.bin").read_bytes() == expected


def test_short_writes_are_continued(tmp_path: Path) -> None:
    file = WeightFile(tmp_path)

    class OneByteAtATime:
        written = b""

        def write(self, data: memoryview) -> int:
            self.written += bytes(data[:1])
            return 1

        def close(self) -> None: ...

    file._file.close()
    slow = OneByteAtATime()
    file._file = slow  # type: ignore[assignment]
    assert file.append(memoryview(b"abc")) == 0
    assert slow.written == b"abc"


def test_an_unwritable_place_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"a file")
    with pytest.raises(FileExistsError):
        WeightFile(tmp_path)
