"""Ctrl-C and SIGTERM, as real signals."""

import signal

import pytest

from mochi_aot.runtime.errors import Interrupted
from mochi_aot.runtime.interrupt import InterruptFlag


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_insists(number: int) -> None:
    before = signal.getsignal(number)
    asked: list[bool] = []
    with InterruptFlag(lambda: asked.append(True)) as flag:
        flag.check()
        signal.raise_signal(number)
        assert asked == [True] and flag.number == number
        with pytest.raises(Interrupted):
            flag.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
    assert asked == [True]
