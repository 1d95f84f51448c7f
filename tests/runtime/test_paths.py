"""Whether the place of an output can be written to."""

from pathlib import Path

import pytest

from mochi_aot.runtime.errors import OutputError
from mochi_aot.runtime.paths import check_writable


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
