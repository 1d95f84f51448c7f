from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts.integrity import hash_bytes, hash_file

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4's example


def test_bytes_and_files_hash_alike(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert hash_bytes(b"abc") == hash_file(tmp_path / "abc") == ABC
    assert hash_bytes(memoryview(np.frombuffer(b"abc", np.uint8))) == ABC


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_file(tmp_path / "none")
