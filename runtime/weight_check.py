"""Hashes weights that were read, before anything uses them, by a thread beside the reader's and the programs'."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Shard
from mochi_aot.runtime.ledger import CHECK, CHECKER, Ledger


class WeightCheck:
    """Compares each part of a weight with its hash, once as long as the weight is kept.

    `done` is called by the thread with the name of each weight, in the order of `put`, and what was raised, or nothing:
    BundleError and OSError for a weight that is not whole. The thread ends when nothing is left to check.
    """

    def __init__(self, bundle: Bundle, ledger: Ledger, done: Callable[[str, BaseException | None], None]) -> None:
        """Check nothing before `put`."""
        self._bundle, self._ledger, self._done = bundle, ledger, done
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._sound: set[tuple[Path, Shard]] = set()  # parts that were seen to be whole, and their files
        self._thread: threading.Thread | None = None

    def put(self, name: str) -> None:
        """Have a weight checked, all of which was read."""
        with self._lock:
            self._waiting.append(name)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="check", daemon=True)
                self._thread.start()

    def release(self, names: Iterable[str]) -> None:
        """Check these weights anew if they are put again, since then they are read again."""
        with self._lock:
            for name in names:
                self._sound.difference_update(_placed(self._bundle, name))

    def use(self, bundle: Bundle) -> None:
        """Check another bundle's weights from now on; those whose parts differ were released."""
        with self._lock:
            self._bundle = bundle

    def close(self) -> None:
        """Check no more, and wait for the thread to end."""
        with self._lock:
            self._waiting.clear()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (name := self._next()) is not None:
            try:
                self._check(name)
            except BaseException as error:  # noqa: BLE001  whoever waits for the weight is to be told of anything
                self._done(name, error)
            else:
                self._done(name, None)

    def _next(self) -> str | None:
        with self._lock:
            if not self._waiting:
                self._thread = None  # under the lock: a `put` from now on starts another thread
                return None
            return self._waiting.popleft()

    def _check(self, name: str) -> None:
        bundle = self._bundle
        for place, part in _placed(bundle, name):
            with self._lock:
                known = (place, part) in self._sound
            if not known:
                begun = self._ledger.now()
                bundle.check_part(part)
                self._ledger.add(CHECK, begun, CHECKER, part.nbytes)
                with self._lock:
                    self._sound.add((place, part))


def _placed(bundle: Bundle, name: str) -> list[tuple[Path, Shard]]:
    """Return the parts of a weight with the files in which they are."""
    return [(bundle.place(part.file), part) for part in bundle.parts(name)]
