"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from mochi_aot.runtime.errors import OutputError
from mochi_aot.runtime.paths import check_writable, replacing


def test_a_finished_file_appears_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_unfinished_file_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    check_writable(path, force=False)
    assert not list(tmp_path.iterdir())  # trying leaves no trace
    path.touch()
    check_writable(path, force=True)
    with pytest.raises(OutputError, match=r"out.bin exists; give another name, or --force to replace it"):
        check_writable(path, force=False)
    with pytest.raises(OutputError, match="is a folder; give a file name in it"):
        check_writable(tmp_path, force=True)
    with pytest.raises(OutputError, match=r"the output folder .* does not exist; create it first"):
        check_writable(tmp_path / "none" / "out.bin", force=True)
    with pytest.raises(OutputError, match=r"the output folder .* does not exist"):
        check_writable(path / "out.bin", force=True)


def test_an_unwritable_folder() -> None:
    """/proc takes no files, not even from root."""
    with pytest.raises(OutputError, match="the output folder /proc cannot be written to: "):
        check_writable(Path("/proc/out.bin"), force=False)
