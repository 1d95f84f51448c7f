"""The conveyor: things come in order, within the window, and the first error of any thread stops all of them."""

import threading
from functools import partial

import pytest

from mochi_aot.compiler.lower.conveyor import Conveyor


def test_things_are_taken_in_the_order_of_asking() -> None:
    """The first is made last: it waits for the second."""
    second, taken = threading.Event(), []

    def first() -> str:
        assert second.wait(10)
        return "first"

    def other() -> str:
        second.set()
        return "second"

    with Conveyor(100) as conveyor:
        conveyor.put(1, first, taken.append)
        conveyor.put(1, other, taken.append)
        conveyor.put(1, lambda: threading.current_thread().name, taken.append)
    assert taken[:2] == ["first", "second"] and taken[2].startswith("make")


@pytest.mark.parametrize("sizes", [[30, 30, 30, 30, 30], [200, 10, 300, 90, 20]])
def test_no_more_than_the_window_is_under_way(sizes: list[int]) -> None:
    """Or a single thing, however large."""
    lock, under_way, most = threading.Lock(), [], []

    def make(size: int) -> int:
        with lock:
            under_way.append(size)
            most.append(list(under_way))
        return size

    def take(size: int) -> None:
        with lock:
            under_way.remove(size)

    with Conveyor(100) as conveyor:
        for size in sizes:
            conveyor.put(size, partial(make, size), take)
    assert under_way == []
    assert all(sum(held) <= 100 or len(held) == 1 for held in most)


class BrokenError(Exception):
    """What goes wrong here."""


def fail(*_: object) -> None:
    raise BrokenError


def test_an_error_in_making_stops_everything() -> None:
    taken: list[int] = []
    with pytest.raises(BrokenError), Conveyor(10) as conveyor:
        conveyor.put(1, lambda: 1, taken.append)
        conveyor.put(10, fail, taken.append)
        for _ in range(1000):
            conveyor.put(10, lambda: 2, taken.append)
    assert taken == [1]
    assert not threads()


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
def test_an_error_in_taking_is_raised_once(error: type[BaseException]) -> None:
    def take(_: int) -> None:
        raise error

    with pytest.raises(error), Conveyor(10) as conveyor:
        conveyor.put(1, lambda: 1, take)
    assert not threads()


def test_an_error_of_the_caller_stops_the_threads() -> None:
    taken: list[int] = []
    gate = threading.Event()
    with pytest.raises(BrokenError), Conveyor(10) as conveyor:
        conveyor.put(1, lambda: gate.wait(0.2), lambda _: None)
        conveyor.put(1, lambda: 1, taken.append)
        raise BrokenError
    assert taken == []
    assert not threads()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("make", "take"))]


def test_each_thread_that_makes_is_started() -> None:
    started: list[str] = []
    with Conveyor(10, start=lambda: started.append(threading.current_thread().name)) as conveyor:
        conveyor.put(1, lambda: None, lambda _: None)
    assert started and all(name.startswith("make") for name in started)


def test_an_interruption_as_the_thread_starts_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt  # where a signal's handler raises it: before the body of `with`, and so its end

    conveyor = Conveyor(10)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), conveyor:
        pytest.fail("the body runs")
    for thread in threading.enumerate():
        if thread.name == "take":
            assert thread.daemon  # or the interpreter would wait for it when it ends
            thread.join(10)
            assert not thread.is_alive()
