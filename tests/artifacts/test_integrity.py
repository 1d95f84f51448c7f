"""BLAKE3 against the test vectors that its authors publish: bytes 0, 1, ... 250, 0, 1, ..."""

from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts.integrity import bundle_id, hash_bytes, hash_file

VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
}


@pytest.mark.parametrize("nbytes", VECTORS)
@pytest.mark.parametrize("all_processors", [False, True])
def test_published_vectors(tmp_path: Path, nbytes: int, all_processors: bool) -> None:
    data = bytes(index % 251 for index in range(nbytes))
    (tmp_path / "file").write_bytes(data)
    assert hash_bytes(data, all_processors) == hash_file(tmp_path / "file") == VECTORS[nbytes]


def test_arrays_of_any_dtype_are_their_bytes() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert hash_bytes(array) == hash_bytes(array.tobytes())


def test_a_bundles_id_is_what_sha256sum_prints() -> None:
    """FIPS 180-4's example."""
    assert bundle_id(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_file(tmp_path / "none")
