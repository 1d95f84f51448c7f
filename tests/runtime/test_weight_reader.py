"""Reading ahead: order, window, sharing and errors; a read that the test holds back stands for a slow disk."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts import Bundle, BundleWriter
from mochi_aot.artifacts.errors import BundleError, ExitCode, exit_code
from mochi_aot.artifacts.schema import Shard, Weight
from mochi_aot.runtime import weight_reader
from mochi_aot.runtime.ledger import READ, WAIT, Ledger
from mochi_aot.runtime.weight_reader import WeightReader
from tests.artifacts import samples
from tests.artifacts.samples import write_tensor_bundle

PAGE = 4096
NAMES = ["a", "b", "c", "d"]


class Disk:
    """Reads are noted; each needs a permit."""

    def __init__(self, permits: int = 1000) -> None:
        self.reads: list[tuple[int, int]] = []
        self._permits = threading.Semaphore(permits)

    def permit(self, count: int = 1) -> None:
        self._permits.release(count)

    def read(self, view: memoryview, path: Path, offset: int) -> None:
        assert self._permits.acquire(timeout=30)
        self.reads.append((offset, len(view)))


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Weights of a page each on a 1x2 mesh, a and b cut, c and d replicated; each piece is read by itself."""
    monkeypatch.setattr(weight_reader, "_BLOCK_BYTES", PAGE)
    random = np.random.default_rng(0)
    with BundleWriter(tmp_path / "bundle") as writer:
        for name in NAMES:
            pieces = [writer.add_shard(random.bytes(PAGE)) for _ in range(2 if name in "ab" else 1)]
            writer.add_weight(Weight(name, "uint8", [PAGE], pieces * (2 // len(pieces))))
        samples.finish_for_torch(writer)
    return Bundle.open(tmp_path / "bundle")


@pytest.fixture
def reader_of(bundle: Bundle) -> Iterator[Callable[..., WeightReader]]:
    made: list[WeightReader] = []

    def make(disk: Disk, **options: object) -> WeightReader:
        made.append(WeightReader(bundle, read=disk.read, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for reader in made:
        reader.close()


Make = Callable[..., WeightReader]


def pages_of(disk: Disk) -> list[int]:
    assert all(length == PAGE for _, length in disk.reads)
    return [offset // PAGE for offset, _ in disk.reads]


def test_in_the_order_of_the_plan_and_each_piece_once(reader_of: Make) -> None:
    disk = Disk()
    reader = reader_of(disk)
    reader.plan(["c", "a", "c"])
    reader.plan(NAMES)
    for name in NAMES:
        reader.wait(name)
    assert pages_of(disk) == [4, 0, 1, 2, 3, 5]


def test_neighbours_are_read_at_once(reader_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_reader, "_BLOCK_BYTES", 5 * PAGE)
    disk = Disk()
    reader = reader_of(disk)
    reader.plan(NAMES)
    reader.wait("d")
    assert disk.reads == [(0, 5 * PAGE), (5 * PAGE, PAGE)]


def test_a_weight_is_there_before_later_ones_are_read(reader_of: Make) -> None:
    disk = Disk(permits=2)
    ledger = Ledger()
    reader = reader_of(disk, ledger=ledger)
    reader.plan(NAMES)
    reader.wait("a")
    assert pages_of(disk) == [0, 1]
    disk.permit(4)
    reader.wait("d")
    assert sum(span.nbytes for span in ledger.spans if span.name == READ) == 6 * PAGE
    assert ledger.seconds(WAIT) > 0


def test_the_window_bounds_what_is_read_ahead(reader_of: Make) -> None:
    disk = Disk()
    reader = reader_of(disk, window=PAGE)
    reader.plan(NAMES)
    for name, reads in zip(NAMES, (3, 5, 6, 6), strict=True):
        reader.wait(name)
        threading.Event().wait(0.05)  # for a reader that does not stop
        assert len(disk.reads) <= reads
    assert pages_of(disk) == [0, 1, 2, 3, 4, 5]


def test_a_window_of_nothing_reads_what_is_waited_for(reader_of: Make) -> None:
    disk = Disk()
    reader = reader_of(disk, window=0)
    reader.plan(NAMES)
    reader.wait("b")
    assert pages_of(disk) == [0, 1, 2, 3]


def test_what_was_not_planned_comes_first(reader_of: Make) -> None:
    disk = Disk(permits=0)
    reader = reader_of(disk)
    reader.plan(["a", "b"])
    threading.Timer(0.05, disk.permit, [6]).start()
    reader.wait("d")
    reader.wait("b")
    assert pages_of(disk).index(5) <= 1


def test_released_weights_are_not_read_and_may_come_back(reader_of: Make) -> None:
    disk = Disk(permits=0)
    reader = reader_of(disk)
    reader.plan(NAMES)
    reader.release(["b", "c", "unknown"])
    disk.permit(100)
    reader.wait("a")
    reader.wait("d")
    assert pages_of(disk) == [0, 1, 5]
    reader.release(["a"])
    reader.wait("a")
    assert pages_of(disk) == [0, 1, 5, 0, 1]


def test_a_file_cut_while_it_is_read(bundle: Bundle) -> None:
    reader = WeightReader(bundle)
    bundle.file_bytes(bundle.manifest.shards[0].file)
    path = bundle.path / bundle.manifest.files[bundle.manifest.shards[0].file].path
    os.truncate(path, 3 * PAGE)
    reader.plan(NAMES)
    for _ in range(2):  # it stays an error
        with pytest.raises(
            BundleError, match=rf"{path.name}: (it ends before byte 16384|expected 24576 bytes, seen 12288).*; copy or"
        ):
            reader.wait("b")


def test_a_disk_that_fails(reader_of: Make) -> None:
    disk = Disk()

    def fail(view: memoryview, path: Path, offset: int) -> None:
        raise OSError(5, "Input/output error")

    disk.read = fail  # type: ignore[method-assign]
    reader = reader_of(disk)
    reader.plan(NAMES)
    with pytest.raises(BundleError, match=r"^cannot read .*\.bin: Input/output error; copy or compile"):
        reader.wait("d")
    reader.plan(["a"])
    with pytest.raises(BundleError, match="Input/output error"):
        reader.wait("a")


def test_waiting_ends_when_the_reader_is_closed(reader_of: Make) -> None:
    disk = Disk(permits=0)
    reader = reader_of(disk)
    reader.plan(NAMES)
    threading.Timer(0.05, lambda: (disk.permit(1), reader.close())).start()
    with pytest.raises(BundleError, match="weight 'd' is no longer being read"):
        reader.wait("d")


def test_ctrl_c_while_waiting(reader_of: Make) -> None:
    disk = Disk(permits=0)
    reader = reader_of(disk)
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        reader.wait("a")
    disk.permit(2)
    reader.wait("a")


EXIT_WHILE_READING = """
import sys, time
from mochi_aot.artifacts import Bundle
from mochi_aot.runtime.weight_reader import WeightReader
bundle = Bundle.open(sys.argv[1])
WeightReader(bundle, read=lambda *_: time.sleep(60)).plan(bundle.weights)
sys.exit(3)
"""


def test_a_process_does_not_wait_for_its_reader(bundle: Bundle) -> None:
    done = subprocess.run([sys.executable, "-c", EXIT_WHILE_READING, str(bundle.path)], check=False, timeout=50)
    assert done.returncode == 3


def test_tensor_files_are_read_whole(tmp_path: Path) -> None:
    disk = Disk()
    reader = WeightReader(Bundle.open(write_tensor_bundle(tmp_path / "b")), read=disk.read)
    reader.wait("w")
    assert disk.reads == [(0, 4)]


def flip(bundle: Bundle, name: str, part: int = 0) -> None:
    """Change one bit of a part of a weight on the disk, without a change of size."""
    place = bundle.parts(name)[part]
    path = bundle.path / bundle.manifest.files[place.file].path
    data = bytearray(path.read_bytes())
    data[place.offset + place.nbytes - 1] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_is_found_before_the_weight_is_there(bundle: Bundle, reader_of: Make) -> None:
    flip(bundle, "b", 1)
    reader = reader_of(Disk())
    reader.plan(NAMES)
    reader.wait("a")
    with pytest.raises(
        BundleError, match=r"weight 'b': .*\.bin: bytes \d+ to \d+ do not match their hash; copy or compile"
    ):
        reader.wait("b")
    with pytest.raises(BundleError, match="weight 'b': "):  # nothing after it is believed either
        reader.wait("d")


def test_a_bit_that_is_flipped_between_two_loads_is_found(bundle: Bundle, reader_of: Make) -> None:
    reader = reader_of(Disk())
    reader.wait("a")
    reader.release(["a"])
    flip(bundle, "a")
    with pytest.raises(BundleError, match=r"weight 'a': .* do not match their hash"):
        reader.wait("a")


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
def test_a_fault_of_the_check_is_told_to_who_waits(
    bundle: Bundle, reader_of: Make, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Whatever it is: nobody waits for ever, or takes the weight for whole, or the bundle for damaged."""

    def fail(bundle: Bundle, part: Shard) -> None:
        raise error("of the check")

    monkeypatch.setattr(Bundle, "check_part", fail)
    reader = reader_of(Disk())
    for _ in range(2):
        expected = MemoryError if error is MemoryError else RuntimeError
        with pytest.raises(expected, match=r"weight 'a' cannot be checked: .*of the check"):
            reader.wait("a")


def test_a_fault_of_reading_is_told_to_who_waits(bundle: Bundle, reader_of: Make) -> None:
    disk = Disk()
    disk.read = lambda *_: {}["none"]  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"weights cannot be read: KeyError: 'none'"):
        reader_of(disk).wait("a")


def test_a_disk_that_cannot_be_read_is_no_damaged_bundle(bundle: Bundle, reader_of: Make) -> None:
    """The system has failed: exit code 7, not 3."""
    disk = Disk()

    def fail(view: memoryview, path: Path, offset: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk.read = fail  # type: ignore[method-assign]
    with pytest.raises(BundleError, match=r"cannot read .*\.bin: Input/output error") as error:
        reader_of(disk).wait("a")
    assert exit_code(error.value) is ExitCode.SYSTEM


def test_without_check_a_flipped_bit_is_believed(bundle: Bundle, reader_of: Make) -> None:
    flip(bundle, "a")
    reader_of(Disk(), check=False).wait("a")


def test_a_file_written_to_while_in_use_is_told(bundle: Bundle, reader_of: Make) -> None:
    reader = reader_of(Disk())
    reader.wait("a")
    reader.check_unchanged()
    os.link(bundle.path / bundle.manifest.files[bundle.parts("a")[0].file].path, bundle.path / "another")
    reader.check_unchanged()  # another bundle may share the file
    flip(bundle, "a")
    with pytest.raises(BundleError, match=r"\.bin was changed while it was in use; copy or compile the bundle again"):
        reader.check_unchanged()


def test_two_tensor_files_of_one_size_that_were_swapped_are_found(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        for name, data in (("v", b"1234"), ("w", b"5678")):
            file = writer.add_tensor_file(lambda place, data=data: place.write_bytes(data))
            writer.add_weight(Weight(name, "bfloat8_b", [32, 32], [], file))
        samples.finish_for_chips(writer, weights_dtype="bfloat8_b", ttnn="0.1")
    bundle = Bundle.open(tmp_path / "b")
    first, second = (bundle.path / bundle.manifest.files[bundle.parts(name)[0].file].path for name in "vw")
    first.write_bytes(b"5678")
    second.write_bytes(b"1234")
    reader = WeightReader(bundle)
    with pytest.raises(BundleError, match=r"weight 'v': .*\.tensorbin: bytes 0 to 4 do not match their hash"):
        reader.wait("v")
    reader.close()


def test_a_slow_check_holds_up_only_who_waits(bundle: Bundle, reader_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader goes on while a weight is checked, up to its window."""
    gate, check_part = threading.Event(), Bundle.check_part
    monkeypatch.setattr(Bundle, "check_part", lambda *part: (gate.wait(30), check_part(*part)))
    disk = Disk()
    reader = reader_of(disk)
    reader.plan(NAMES)
    waiting = threading.Thread(target=reader.wait, args=("d",))
    waiting.start()
    for _ in range(300):
        if len(disk.reads) == 6:
            break
        waiting.join(0.1)
    assert len(disk.reads) == 6 and waiting.is_alive()
    gate.set()
    waiting.join(30)
    assert not waiting.is_alive()


def test_waiting_for_a_check_ends_when_the_reader_is_closed(
    bundle: Bundle, reader_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put after the part that is being checked is not checked any more, and nobody waits for it for ever."""
    begun, gate, check_part = threading.Event(), threading.Event(), Bundle.check_part
    monkeypatch.setattr(Bundle, "check_part", lambda *part: (begun.set(), gate.wait(100), check_part(*part)))
    reader = reader_of(Disk())
    errors: list[str] = []

    def wait() -> None:
        try:
            reader.wait("d")
        except BundleError as error:
            errors.append(str(error))

    reader.plan(NAMES)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert begun.wait(30)
    closing = threading.Thread(target=reader.close, daemon=True)
    closing.start()
    waiting.join(30)
    ended = not waiting.is_alive()  # while the check still goes on
    gate.set()
    closing.join(30)
    assert ended and not closing.is_alive()
    assert errors == [f"{bundle.path}: weight 'd' is no longer being read"]
