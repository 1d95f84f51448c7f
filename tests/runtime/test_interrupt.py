"""Ctrl-C, as real signals."""

import os
import signal

import pytest

from mochi_aot.runtime.errors import Interrupted
from mochi_aot.runtime.interrupt import InterruptFlag


def test_the_first_asks_and_the_second_insists() -> None:
    before = signal.getsignal(signal.SIGINT)
    asked: list[bool] = []
    with InterruptFlag(lambda: asked.append(True)) as flag:
        flag.check()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked == [True]
        with pytest.raises(Interrupted):
            flag.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert signal.getsignal(signal.SIGINT) is before
    assert asked == [True]
