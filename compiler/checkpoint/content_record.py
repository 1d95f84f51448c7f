"""The hashes of parameters that were read before, by the state of the file that held them: for `--trust-times`.

They are kept for this user and not in bundles: inodes and times are of this machine's files, and a bundle is the same
wherever and whenever it is made. So they serve a bundle that was moved, and a compile that was stopped, too.
"""

import re
import time
from contextlib import suppress
from pathlib import Path

from mochi_aot.compiler.checkpoint.file_state import FileState

KEPT_SECONDS = 90 * 24 * 3600

_LINE = re.compile(r"blake3 ([0-9a-f]{64}) (.+)")


class ContentRecord:
    """A text file for each state of a file, in `folder`, which may be removed at any time.

    Its lines are hashes and places. A line that was cut short names no place that exists.
    """

    def __init__(self, folder: Path, trust: bool) -> None:
        """`trust`: whether what was recorded is to be believed; it is written in any case."""
        self._folder, self.trust = folder, trust

    def known(self, state: FileState) -> dict[str, str]:
        """Place -> hash of what was read of a file in this state, or nothing if that is not to be believed."""
        if not self.trust:
            return {}
        try:
            text = self._place(state).read_text()
        except (OSError, ValueError):
            return {}
        matches = (_LINE.fullmatch(line) for line in text.splitlines())
        return {match[2]: match[1] for match in matches if match}

    def add(self, state: FileState, place: str, digest: str) -> None:
        """Note what was read. Where nothing can be written, nothing will be known."""
        path = self._place(state)
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                self._remove_stale(state.inode)
            with path.open("a") as file:
                file.write(f"blake3 {digest} {place}\n")

    def _remove_stale(self, inode: int) -> None:
        """Remove what was recorded of a file in other states, and of all files so long ago that they may be gone."""
        for path in self._folder.iterdir():
            if path.name.startswith(f"{inode}-") or path.stat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink(missing_ok=True)

    def _place(self, state: FileState) -> Path:
        return self._folder / f"{state.inode}-{state.nbytes}-{state.mtime_ns}-{state.ctime_ns}"
