"""A weight file that grows: shards one after the other, each on a page, hashed as they are written."""

import hashlib
from pathlib import Path

from mochi_aot.artifacts.layout import align, weight_path
from mochi_aot.artifacts.schema import File


class WeightFile:
    """Written under a working name in `root`, then named by its hash. Its methods raise OSError as writing does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / weight_path("open")
        self._path.parent.mkdir(exist_ok=True)
        self._file = self._path.open("xb", buffering=0)
        self._digest = hashlib.sha256()
        self.nbytes = 0

    def append(self, data: memoryview) -> int:
        """Write bytes at the next page; returns their offset."""
        offset = align(self.nbytes)
        self._write(memoryview(bytes(offset - self.nbytes)))
        self._write(data)
        return offset

    def finish(self) -> File:
        """Close the file and give it its final name."""
        self.close()
        sha256 = self._digest.hexdigest()
        self._path.rename(self._root / weight_path(sha256))
        return File(weight_path(sha256), self.nbytes, sha256)

    def close(self) -> None:
        """Close the file where it is; safe to call twice."""
        self._file.close()

    def _write(self, data: memoryview) -> None:
        self._digest.update(data)
        self.nbytes += len(data)
        while len(data) > 0:  # an unbuffered write may be short, 2 GiB at most on Linux
            data = data[self._file.write(data) :]
