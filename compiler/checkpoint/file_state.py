"""Whether a file is still the one that it was, as far as that can be told without reading it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class FileState:
    """Size in bytes, inode number, and when contents and inode were last changed, in nanoseconds since 1970.

    A process can set the time of the contents back; the inode's time is the system's own, and tells of that too.
    """

    nbytes: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, file: Path | int) -> Self:
        """Return the state of a path or of an open file's descriptor. Raise OSError if there is none."""
        status = os.stat(file)
        return cls(status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)

    def settled(self, time_ns: int) -> bool:
        """Return whether the last change was so long before `time_ns` that one more would have another time.

        File systems keep times in steps: of the kernel's tick, 10 ms at most, or where they are coarse of a second.
        """
        return max(self.mtime_ns, self.ctime_ns) + 1_000_000_000 < time_ns
