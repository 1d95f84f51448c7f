"""Ctrl-C, SIGTERM and SIGHUP, as real signals."""

import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mochi_aot.runtime.errors import Interrupted
from mochi_aot.runtime.interrupt import SIGNALS, InterruptFlag, Stop, Stopped, stopping


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_asks_and_the_second_insists(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(number)
    asked: list[bool] = []
    with InterruptFlag(lambda: asked.append(True)) as flag:
        flag.check()
        signal.raise_signal(number)
        assert asked == [True] and flag.number == number
        with pytest.raises(Interrupted):
            flag.check()
        signal.raise_signal(number)  # so soon after the first it is the same wish: torchrun and terminals send two
        monkeypatch.setattr("mochi_aot.runtime.interrupt._ONE_STOP_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
    assert asked == [True]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_and_all_is_as_before(number: int) -> None:
    before = [signal.getsignal(one) for one in (*SIGNALS, signal.SIGALRM)]
    with pytest.raises(Stopped) as raised, stopping(Stop()):
        signal.raise_signal(number)
    assert raised.value.number == number
    assert [signal.getsignal(one) for one in (*SIGNALS, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_what_ends_by_an_error_is_not_stopped_in_its_cleanup() -> None:
    """Neither by a signal that comes then, nor by one before whose exception a destructor has swallowed."""
    with stopping(stop := Stop()):
        stop.settle()
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.2)  # the timer looks in between
    assert stop.number == signal.SIGTERM


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(Stop()):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def wait() -> None:
    for _ in range(1000):
        time.sleep(0.01)
    raise AssertionError("nothing was raised")


class Swallows:
    """Its destructor is where the signal comes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("where", ["a destructor", "a handler that catches everything"])
def test_what_is_swallowed_is_raised_again(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    reached = False
    with pytest.raises(Stopped), stopping(Stop()):
        if where == "a destructor":
            Swallows()
        else:
            with suppress(BaseException):
                signal.raise_signal(signal.SIGTERM)
        reached = True
        wait()
    assert reached and "Exception ignored" not in capsys.readouterr().err


def test_cleanup_is_not_stopped_by_the_timer_or_a_second_signal_at_once() -> None:
    """timeout(1) sends two."""
    cleaned = False
    with pytest.raises(Stopped), stopping(Stop()):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            time.sleep(0.2)  # four looks of the timer
            signal.raise_signal(signal.SIGTERM)
            cleaned = True
    assert cleaned


def test_a_later_second_signal_stops_the_cleanup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mochi_aot.runtime.interrupt._ONE_STOP_SECONDS", 0.0)
    with pytest.raises(Stopped), stopping(Stop()):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGHUP)
            raise AssertionError("the cleanup went on")


def test_an_import_is_finished_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of an extension in it may not survive an exception."""
    (tmp_path / "stopped_import.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGTERM)\ntime.sleep(0.2)\nDONE = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Stopped), stopping(Stop()):
        import stopped_import  # type: ignore[import-not-found]

        wait()
    assert sys.modules.pop("stopped_import") is stopped_import and stopped_import.DONE
