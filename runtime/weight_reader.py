"""Reads weights into the file cache in the order of their use, by a thread that runs ahead of the programs.

Page faults would read a mapped weight at its first use, but in small ranges, one after the other, while the program
waits. This thread asks for large ranges instead, while the programs before that use compute.
"""

import mmap
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.artifacts.errors import BundleError, one_line
from mochi_aot.artifacts.layout import align
from mochi_aot.artifacts.memory import free_memory
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.ledger import READ, READER, WAIT, Ledger
from mochi_aot.runtime.pages import bytes_from_disk, forget, read_in
from mochi_aot.runtime.weight_check import WeightCheck

# Read at once. Between two reads this thread needs Python's lock, which a thread that computes hands over only every
# 5 ms (sys.getswitchinterval): in 64 MiB a disk of 2 GB/s spends 32 ms, so little is lost.
_BLOCK_BYTES = 64 << 20

ReadIn = Callable[[memoryview, Path, int], None]


@dataclass(frozen=True)
class _Piece:
    """A range of a file for one weight; with the last piece the weight is there. It may be empty: read for another."""

    name: str
    file: int
    start: int
    stop: int
    last: bool


class WeightReader:
    """Weights stay in the file cache, of which the backends' weights are views: there is no second copy.

    `plan` says what will be used, and in what order; `wait` returns when a weight is there; `release` lets it go. No
    more than `window` bytes are read ahead of those that were waited for: a quarter of the memory that is free, since
    the weights that programs hold, and what they compute, need room too. A piece that several devices or weights share
    is read once. The thread ends when nothing is left to read.
    """

    def __init__(
        self,
        bundle: Bundle,
        ledger: Ledger | None = None,
        window: int | None = None,
        read: ReadIn = read_in,
        check: bool = True,
    ) -> None:
        """Read nothing before `plan`. `read` reads a mapped view of a file; it is given path and offset as well.

        Without `check` what is read is believed.
        """
        self._bundle, self._ledger, self._read_in = bundle, ledger or Ledger(), read
        self._bundle_read = bundle
        self._window = free_memory() // 4 if window is None else window
        self._changed = threading.Condition()  # of all that follows; its lock may be taken twice by one thread
        self._queue: deque[_Piece] = deque()
        self._claimed: dict[tuple[int, int], str] = {}  # file and offset -> the weight for which the range is read
        self._planned: set[str] = set()
        self._partly: dict[str, int] = {}  # bytes read of a weight
        self._there: dict[str, int] = {}  # of a whole weight; 0 once the weight was waited for
        self._ahead = 0  # bytes read and not yet waited for: what the window bounds
        self._check = WeightCheck(bundle, self._ledger, self._checked) if check else None
        self._checking: list[str] = []  # weights that were read and whose check has not ended
        self._awaited: str | None = None
        self._error: Exception | None = None  # that whoever waits is told
        self._thread: threading.Thread | None = None
        self._closed = False

    def plan(self, names: Iterable[str], at_once: bool = False) -> None:
        """Read these weights, unless they are planned already, after those that are; or, `at_once`, before those.

        Raise BundleError for files that cannot be mapped.
        """
        with self._changed:
            new = [name for name in dict.fromkeys(names) if name not in self._planned]
            if not new:
                return
            if at_once:
                # These weights overtake others. A range that such another weight has claimed would be read only after
                # these were said to be there: so claims of weights that are not there yet end, and these weights read
                # the ranges too. The second read finds them in the file cache.
                self._claimed = {place: owner for place, owner in self._claimed.items() if owner in self._there}
            pieces = [piece for name in new for piece in self._pieces(name)]
            self._planned.update(new)
            if at_once:
                self._queue.extendleft(reversed(pieces))
            else:
                self._queue.extend(pieces)
            self._start()

    def wait(self, name: str) -> None:
        """Return when the weight has been read. Raise BundleError if it could not be."""
        with self._changed:
            self.plan([name], at_once=True)  # nothing, but for a weight that nobody planned, or that was released
            if name not in self._there:
                self._await(name)
            self._ahead -= self._there[name]
            self._there[name] = 0

    def release(self, names: Iterable[str]) -> None:
        """Let weights go that are not used any more: the rest of them is not read, and their pages may be reused."""
        with self._changed:
            gone = set(names) & self._planned
            self._planned -= gone
            self._queue = deque(piece for piece in self._queue if piece.name not in gone)
            for name in gone:
                self._ahead -= self._there.pop(name, 0) + self._partly.pop(name, 0)
            released = [place for place, name in self._claimed.items() if name in gone]
            for place in released:
                del self._claimed[place]
            self._changed.notify_all()
        if self._check is not None:
            self._check.release(gone)
        # Outside of the lock, since madvise may take long. A read of these pages at the same time does no harm.
        for name in gone:
            for file, start, stop in _ranges(self._bundle, name):
                forget(_view(self._bundle, file, start, stop))

    def use(self, bundle: Bundle, changed: Iterable[str]) -> None:
        """Read another bundle from now on, in which these weights differ from those of the last, and no others."""
        self.release(changed)
        with self._changed:
            self._bundle = bundle
            if self._check is not None:
                self._check.use(bundle)

    def close(self) -> None:
        """Read nothing more, and wait for the thread to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        if self._check is not None:
            self._check.close()

    def check_unchanged(self) -> None:
        """Raise BundleError if a file that was checked was changed since, as far as its size and times tell."""
        if self._check is not None:
            self._bundle.check_unchanged()

    def _pieces(self, name: str) -> list[_Piece]:
        """Return what is to be read for a weight and is not read for another one already, in blocks.

        At least one piece, if an empty one: `last` of it says that the weight is there, and pieces come in order, so
        that what others read for this weight is there by then too.
        """
        pieces = []
        for file, start, stop in _ranges(self._bundle, name):
            if self._claimed.setdefault((file, start), name) == name:
                blocks = range(start, stop, _BLOCK_BYTES)
                pieces += [_Piece(name, file, at, min(at + _BLOCK_BYTES, stop), False) for at in blocks]
        end = pieces.pop() if pieces else _Piece(name, 0, 0, 0, True)
        return [*pieces, _Piece(end.name, end.file, end.start, end.stop, True)]

    def _await(self, name: str) -> None:
        start = self._ledger.now()
        self._awaited = name
        self._changed.notify_all()
        try:
            while name not in self._there:
                # The thread ended by an error, or `close`, which ends checking too; otherwise it reads until nothing is
                # left.
                checking = bool(self._checking) and not self._closed
                if self._error is not None:
                    raise type(self._error)(str(self._error)) from self._error.__cause__
                if self._thread is None and not checking:
                    raise BundleError(f"{self._bundle.path}: weight {name!r} is no longer being read")
                self._changed.wait()
        finally:
            self._awaited = None
            self._ledger.add(WAIT, start)

    def _start(self) -> None:
        if self._queue and self._thread is None and self._error is None:
            self._thread = threading.Thread(target=self._run, name="weights", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while pieces := self._next():
                self._read(self._bundle_read, pieces)
        except BaseException as error:  # noqa: BLE001  nobody would see an exception of this thread
            self._error = _told(error, "weights cannot be read")
        finally:
            with self._changed:
                if self._thread is threading.current_thread():  # `_next` may have let a later plan start another
                    self._thread = None
                self._changed.notify_all()

    def _next(self) -> list[_Piece]:
        """Return what to read at once, pieces that follow each other in a file, once the window has room.

        An empty list, where nothing is left to read.
        """
        with self._changed:
            while self._queue and not self._closed and self._ahead >= self._window and not self._is_awaited():
                self._changed.wait()
            if not self._queue or self._closed:
                self._thread = None  # under the lock: a plan that comes from now on starts another thread
                return []
            self._bundle_read = self._bundle  # of these pieces, though another may be used from now on
            pieces = [self._queue.popleft()]
            while self._queue and _joins(pieces, self._queue[0]):
                pieces.append(self._queue.popleft())
            return pieces

    def _is_awaited(self) -> bool:
        """Return whether somebody waits for a weight that was not read.

        Then the window does not count: what fills it may be used after that weight, and nobody would ever make room.
        """
        return self._awaited is not None and self._awaited not in self._there and self._awaited not in self._checking

    def _read(self, bundle: Bundle, pieces: list[_Piece]) -> None:
        full = [piece for piece in pieces if piece.stop > piece.start]
        if full:
            self._read_range(bundle, full[0].file, full[0].start, full[-1].stop)
        with self._changed:
            for piece in pieces:
                self._arrived(piece)
            self._changed.notify_all()

    def _read_range(self, bundle: Bundle, file: int, start: int, stop: int) -> None:
        path = bundle.place(file)
        view = _view(bundle, file, start, stop)
        begun, before = self._ledger.now(), bytes_from_disk()
        try:
            self._read_in(view, path, stop - len(view))
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror}; copy or compile the bundle again") from error
        self._ledger.add(READ, begun, READER, len(view), bytes_from_disk() - before)

    def _arrived(self, piece: _Piece) -> None:
        if piece.name not in self._planned:
            return  # released while it was read
        nbytes = piece.stop - piece.start
        self._ahead += nbytes
        self._partly[piece.name] = self._partly.get(piece.name, 0) + nbytes
        if piece.last and self._check is not None:
            self._checking.append(piece.name)
            self._check.put(piece.name)
        elif piece.last:
            self._is_there(piece.name)

    def _checked(self, name: str, problem: BaseException | None) -> None:
        with self._changed:
            self._checking.remove(name)
            if problem is not None:
                self._error = self._error or _told(problem, f"weight {name!r} cannot be checked", f"weight {name!r}: ")
                self._queue.clear()
            elif name in self._planned and self._error is None:
                self._is_there(name)
            self._changed.notify_all()

    def _is_there(self, name: str) -> None:
        # There already, if the weight was released and planned again while a piece of the first plan was read.
        self._there[name] = self._there.get(name, 0) + self._partly.pop(name, 0)


def _told(error: BaseException, what: str, where: str = "") -> Exception:
    """Return what to raise in another thread for an error: BundleError for files that are not as they should be."""
    told: Exception = RuntimeError(f"{what}: {type(error).__name__}: {error}")
    if isinstance(error, BundleError | OSError):
        told = BundleError(f"{where}{one_line(error)}")
    elif isinstance(error, MemoryError):
        told = MemoryError(f"{what}: {error}")
    told.__cause__ = error.__cause__ if isinstance(error.__cause__, OSError) else error  # which says the exit code
    return told


def _view(bundle: Bundle, file: int, start: int, stop: int) -> memoryview:
    """Return a range of a mapped file, from the beginning of the page in which it starts, as madvise wants it."""
    return bundle.file_bytes(file)[start - start % mmap.PAGESIZE : stop]


def _ranges(bundle: Bundle, name: str) -> list[tuple[int, int, int]]:
    """Return file, start and stop of each part of a weight."""
    return [(part.file, part.offset, part.offset + part.nbytes) for part in bundle.parts(name)]


def _joins(pieces: list[_Piece], following: _Piece) -> bool:
    """Return whether a piece can be read at once with those before it.

    Shards follow each other with padding in between, which is read too: a range costs more than a page.
    """
    if following.start == following.stop:
        return True
    full = [piece for piece in pieces if piece.stop > piece.start]
    if not full:
        return True
    first, last = full[0], full[-1]
    return (
        following.file == last.file
        and following.start == align(last.stop)
        and following.stop - first.start <= _BLOCK_BYTES
    )
