import json
import logging
import sys
import time
from collections.abc import Callable

import pytest

from mochi_aot.tools.commands import console as module
from mochi_aot.tools.commands.console import (
    LOGGER,
    Console,
    LogSettings,
    amount,
    human_seconds,
    logging_as,
    rate_text,
)
from mochi_aot.tools.commands.text import plain
from tests.tools.commands.terminal import Seen, python, run_in_terminal

STARTED = 100.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; a minute is long enough for any machine."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("nothing came within a minute")


def test_a_phase_is_a_line_and_messages_say_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(LogSettings()), Console() as console:
        console.phase("tracing")
        console.update(1, 3)
        LOGGER.warning("the %s is cut", "prompt")
        LOGGER.error("no such file")
        LOGGER.debug("not asked for")
    assert capsys.readouterr() == ("", "tracing\nwarning: the prompt is cut\nerror: no such file\n")


def test_quiet_and_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    for settings, expected in (
        (LogSettings(quiet=True), "warning: w\n"),
        (LogSettings(verbose=True), "phase\ndetail\nwarning: w\n"),
    ):
        with logging_as(settings), Console() as console:
            console.phase("phase")
            LOGGER.debug("detail")
            LOGGER.warning("w")
        assert capsys.readouterr().err == expected


def test_the_logger_is_left_as_it_was() -> None:
    before = LOGGER.level, LOGGER.propagate, list(LOGGER.handlers)
    with logging_as(LogSettings(quiet=True)):
        assert LOGGER.level == logging.WARNING
    assert (LOGGER.level, LOGGER.propagate, LOGGER.handlers) == before


def test_json_has_the_message_and_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(LogSettings(json=True)), Console() as console:
        console.phase("writing\nweights")
        LOGGER.error("bad", extra={"numbers": {"kind": "input", "exit_code": 3}})
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["message"], first["phase"]) == ("info", "writing\nweights", "writing\nweights")
    assert (second["level"], second["message"], second["kind"], second["exit_code"]) == ("error", "bad", "input", 3)
    assert abs(first["time"] - time.time()) < 3600  # seconds since 1970


def test_a_line_comes_in_time_while_one_step_lasts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none after the end. A hundredth of a second stands for the ten seconds."""
    monkeypatch.setattr(module, "PERIOD", 0.01)
    told: list[str] = []
    with logging_as(LogSettings()):
        with Console() as console:
            console.phase("denoising")
            console.update(2, 8)
            wait_until(lambda: bool(told.append(capsys.readouterr().err) or told[-1].count("left\n")))
        capsys.readouterr()
        time.sleep(0.1)  # ten periods
        assert capsys.readouterr().err == ""
    lines = "".join(told).splitlines()
    assert lines[0] == "denoising"
    assert lines[-1].startswith("denoising: 2 of 8 steps, ") and lines[-1].endswith(" left")


def test_in_json_a_line_in_time_has_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.01)
    told: list[str] = []
    with logging_as(LogSettings(json=True)), Console() as console:
        console.phase("writing")
        console.update(250, 1000, "bytes")
        wait_until(lambda: bool(told.append(capsys.readouterr().err) or "seconds_left" in told[-1]))
    line = json.loads("".join(told).splitlines()[-1])
    assert (line["phase"], line["done"], line["total"], line["unit"]) == ("writing", 250, 1000, "bytes")
    # Three quarters are left, at the rate of the first one. The time left is rounded to a tenth of a second.
    assert line["per_second"] > 0
    assert line["seconds_left"] == pytest.approx(750 / line["per_second"], abs=0.051)


@pytest.mark.parametrize(
    ("done", "total", "unit", "seconds", "text"),
    [
        (0, 0, "steps", 12.0, "p: 12 s so far"),
        (0, 8, "steps", 12.0, "p: 0 of 8 steps, 12 s so far"),
        (2, 8, "steps", 60.0, "p: 2 of 8 steps, 30.0 s each, 3 min 0 s left"),
        (30, 90, "steps", 10.0, "p: 30 of 90 steps, 3.0 a second, 20 s left"),
        (3_000_000_000, 12_000_000_000, "bytes", 10.0, "p: 3 GB of 12 GB, 300 MB/s, 30 s left"),
    ],
)
def test_what_a_line_says(done: int, total: int, unit: str, seconds: float, text: str) -> None:
    phase = module._Phase("p", STARTED, done, total, unit)
    assert phase.text_at(STARTED + seconds) == text


def test_units() -> None:
    assert [human_seconds(s) for s in (0, 59.4, 60, 3599, 3600, 7500)] == [
        "0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "2 h 5 min",
    ]  # fmt: skip
    assert amount(1, 2, "steps") == "1 of 2 steps"
    assert rate_text(1, 0.0, "bytes") == "1 GB/s"  # at once: one byte in a nanosecond


def test_what_a_terminal_would_obey_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain("a\x1b]0;b\x07\r\x9b\ttäx→\n") == "a\\x1b]0;b\\x07\\r\\x9b\ttäx→\n"
    with logging_as(LogSettings()):
        LOGGER.error("bundle \x1b[2J")
    assert capsys.readouterr().err == "error: bundle \\x1b[2J\n"


def test_a_reader_that_has_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None: ...

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stderr", Gone())
    with logging_as(LogSettings()), Console() as console:
        console.phase("denoising")


# A second a step is more than the tenth of a second in which rich draws again; the bar is there at each of them.
WORK = """
import sys, time
from mochi_aot.tools.commands.console import LOGGER, Console, LogSettings, logging_as

with logging_as(LogSettings(quiet="quiet" in sys.argv, json="json" in sys.argv)), Console() as console:
    console.phase("writing weights")
    for done in range(3):
        console.update(done * 10**9, 3 * 10**9, "bytes")
        time.sleep(0.3)
    LOGGER.warning("a weight is odd")
    console.update(3 * 10**9, 3 * 10**9, "bytes")
    console.phase("denoising")
    console.update(1, 4)
    time.sleep(0.3)
print("rich" in sys.modules)
"""
LEFT = ["writing weights", "warning: a weight is odd", "denoising"]
BAR = "━"


def lines(seen: Seen) -> list[str]:
    assert seen.code == 0, seen.raw
    return [line for line in seen.screen if line]


def test_in_a_terminal_a_bar_appears_and_is_cleared() -> None:
    seen = run_in_terminal(python(WORK))
    assert lines(seen) == LEFT and seen.stdout == "True\n"
    assert BAR in seen.raw and "1 GB of 3 GB, " in seen.raw and "GB/s" in seen.raw and " s left" in seen.raw
    assert "1 of 4 steps" in seen.raw
    assert seen.raw.rindex("\x1b[?25h") > seen.raw.rindex("\x1b[?25l")  # the cursor is to be seen again


def test_a_narrow_terminal() -> None:
    seen = run_in_terminal(python(WORK), columns=20)
    assert lines(seen) == LEFT and "…" in seen.raw


@pytest.mark.parametrize("columns", [0, 19])
def test_where_there_is_no_room_there_are_lines(columns: int) -> None:
    """A terminal whose size nobody has set says 0."""
    seen = run_in_terminal(python(WORK), columns=columns)
    assert lines(seen) == LEFT and "\x1b" not in seen.raw and seen.stdout == "False\n"


def test_a_terminal_that_cannot_draw() -> None:
    for terminal in ("dumb", ""):
        seen = run_in_terminal(python(WORK), TERM=terminal)
        assert lines(seen) == LEFT and "\x1b" not in seen.raw and seen.stdout == "False\n"


def test_without_colours_the_bar_stays() -> None:
    coloured, plain_ = (run_in_terminal(python(WORK), **names) for names in ({}, {"NO_COLOR": "1"}))
    assert "\x1b[38;" in coloured.raw
    assert lines(plain_) == LEFT and BAR in plain_.raw and "\x1b[38;" not in plain_.raw


def test_json_and_quiet_have_no_bar() -> None:
    seen = run_in_terminal([*python(WORK), "json"])
    assert "\x1b" not in seen.raw and seen.stdout == "False\n"
    assert [json.loads(line)["message"] for line in seen.raw.splitlines()] == [
        "writing weights", "a weight is odd", "denoising",
    ]  # fmt: skip
    seen = run_in_terminal([*python(WORK), "quiet"])
    assert lines(seen) == ["warning: a weight is odd"] and "\x1b" not in seen.raw


def test_a_fault_clears_the_bar() -> None:
    source = WORK.replace("    time.sleep(0.3)\nprint", "    raise SystemExit(7)\nprint")
    seen = run_in_terminal(python(source))
    assert seen.code == 7 and [line for line in seen.screen if line] == LEFT
    assert seen.raw.rindex("\x1b[?25h") > seen.raw.rindex("\x1b[?25l")


def test_a_traceback_is_plain_too(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(LogSettings()):
        try:
            raise ValueError("\x1b[2J\udc80")
        except ValueError as error:
            LOGGER.error("failed", exc_info=error)
    assert capsys.readouterr().err.endswith("ValueError: \\x1b[2J\\udc80\n")
