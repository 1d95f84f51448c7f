"""What command lines say on stderr while they work: messages, and how far the work is.

Messages of the logger `mochi_aot` are shown as text, or as one JSON object a line. In a terminal a phase that says how
far it is has a bar; elsewhere a phase is a line when it starts, and another one every ten seconds.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from mochi_aot.tools.commands.text import human_bytes, plain

if TYPE_CHECKING:
    from rich.progress import Progress

LOGGER = logging.getLogger("mochi_aot")
INTERRUPTION = logging.CRITICAL  # of no label, and never left out
PERIOD = 10.0  # seconds between two lines of a phase, where there is no terminal
_LEAST_COLUMNS = 20  # a narrower terminal has no room for a bar


class TextFormat(logging.Formatter):
    """A message on a line of its own: errors and warnings say what they are."""

    def format(self, record: logging.LogRecord) -> str:
        label = {logging.ERROR: "error: ", logging.WARNING: "warning: "}.get(record.levelno, "")
        text = label + record.getMessage()
        return plain(f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text)


class JsonFormat(logging.Formatter):
    """A message as a JSON object: time (seconds since 1970), level, message, and the numbers that belong to it."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": round(record.created, 3), "level": record.levelname.lower(), "message": record.getMessage()}
        entry |= getattr(record, "numbers", {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def say_interrupted(text: str, code: int) -> None:
    """Say that the command was stopped; no error, and said even to those who asked for errors alone."""
    numbers = {"kind": "interrupted", "exit_code": int(code)}
    LOGGER.log(INTERRUPTION, "%s", text, extra={"numbers": numbers})


class _Handler(logging.Handler):
    """Writes to what is stderr at that moment, above the bar that is drawn there."""

    bar: "_Bar | None" = None

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        with suppress(OSError):  # what nobody reads is no reason to stop
            if self.bar is None:
                click.echo(text, err=True)
            else:
                self.bar.show_above(text)


@dataclass(frozen=True)
class LogSettings:
    """What the options say about messages."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False

    @property
    def level(self) -> int:
        return logging.WARNING if self.quiet else logging.DEBUG if self.verbose else logging.INFO


_handler = _Handler()


@contextmanager
def logging_as(settings: LogSettings) -> Iterator[None]:
    """Show the messages of the logger `mochi_aot` on stderr meanwhile."""
    before = LOGGER.level, LOGGER.propagate
    _handler.setFormatter(JsonFormat() if settings.json else TextFormat())
    LOGGER.setLevel(settings.level)
    LOGGER.propagate = False
    LOGGER.addHandler(_handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(_handler)
        LOGGER.setLevel(before[0])
        LOGGER.propagate = before[1]


def draws_bars() -> bool:
    """Whether stderr is a terminal in which a line can be drawn again, and people are to see text."""
    if LOGGER.getEffectiveLevel() > logging.INFO or isinstance(_handler.formatter, JsonFormat):
        return False
    if not sys.stderr.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    return os.get_terminal_size(sys.stderr.fileno()).columns >= _LEAST_COLUMNS


@dataclass
class _Phase:
    """A part of the work; `total` is 0 until it is known how much there is to do."""

    name: str
    started: float
    done: int = 0
    total: int = 0
    unit: str = "steps"
    numbers: dict[str, Any] = field(default_factory=dict)

    def numbers_at(self, now: float) -> dict[str, Any]:
        """Return what JSON lines say beside the message: seconds, and once it is known how far the phase is, the
        rate."""
        numbers: dict[str, Any] = {"phase": self.name, "seconds": round(now - self.started, 3)}
        if self.total:
            numbers |= {"done": self.done, "total": self.total, "unit": self.unit}
        rate = self.done / max(now - self.started, 1e-9)
        if self.total and self.done:
            numbers |= {"per_second": rate, "seconds_left": round((self.total - self.done) / rate, 1)}
        return numbers

    def text_at(self, now: float) -> str:
        """Return the line that says how far the phase is."""
        seconds = now - self.started
        if not self.total:
            return f"{self.name}: {human_seconds(seconds)} so far"
        text = f"{self.name}: {amount(self.done, self.total, self.unit)}"
        if not self.done:
            return f"{text}, {human_seconds(seconds)} so far"
        left = (self.total - self.done) * seconds / self.done
        return f"{text}, {rate_text(self.done, seconds, self.unit)}, {human_seconds(left)} left"


def amount(done: int, total: int, unit: str) -> str:
    """How much of a phase is done, in words."""
    if unit == "bytes":
        return f"{human_bytes(done)} of {human_bytes(total)}"
    return f"{done} of {total} {unit}"


def rate_text(done: int, seconds: float, unit: str) -> str:
    """How fast it goes; what takes longer than a second each, as the time of one."""
    if unit == "bytes":
        return f"{human_bytes(done / max(seconds, 1e-9))}/s"
    if seconds > done:
        return f"{seconds / done:.1f} s each"
    return f"{done / max(seconds, 1e-9):.1f} a second"


def human_seconds(seconds: float) -> str:
    """Seconds as people say them: 12 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Console:
    """Shows on stderr how the work gets on. A context manager: nothing is written after its end.

    `phase` begins a part of the work, and `update` says how much of it is done.
    """

    def __init__(self) -> None:
        self._phase: _Phase | None = None
        self._bar: _Bar | None = None
        self._lock = threading.RLock()  # a signal's handler may come to write while this thread does
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def phase(self, name: str) -> None:
        """Say that a new part of the work begins."""
        with self._lock:
            self._end_bar()
            self._phase = _Phase(name, time.monotonic())
            LOGGER.info("%s", name, extra={"numbers": {"phase": name}})
        if self._thread is None and not self._ended.is_set() and not draws_bars():
            self._thread = threading.Thread(target=self._tell_in_time, name="progress", daemon=True)
            self._thread.start()

    def update(self, done: int, total: int, unit: str = "steps") -> None:
        """`done` of `total` bytes or steps of the phase are done."""
        with self._lock:
            phase = self._phase
            if phase is None or self._ended.is_set():
                return
            phase.done, phase.total, phase.unit = done, total, unit
            if self._bar is None and done < total and draws_bars():
                self._bar = _handler.bar = _Bar(phase)
            if self._bar is not None:
                self._bar.update(phase)
            if done >= total:
                self._end_bar()

    def close(self) -> None:
        """Clear the bar, and say no more."""
        self._ended.set()
        with self._lock:
            self._end_bar()
            self._phase = None
        if self._thread is not None:
            self._thread.join(timeout=PERIOD)
            self._thread = None

    def _end_bar(self) -> None:
        if self._bar is not None:
            bar, self._bar, _handler.bar = self._bar, None, None
            bar.close()

    def _tell_in_time(self) -> None:
        """Run in a thread of its own, since one step may take minutes."""
        while not self._ended.wait(PERIOD):
            with self._lock:
                now = time.monotonic()
                phase = self._phase
                if phase is None or self._ended.is_set() or now - phase.started < PERIOD / 2:
                    continue
                LOGGER.info("%s", phase.text_at(now), extra={"numbers": phase.numbers_at(now)})


class _Bar:
    """The bar of one phase in a terminal; rich draws it, in a thread of its own."""

    def __init__(self, phase: _Phase) -> None:
        self._rich = _rich_progress()
        self._task = self._rich.add_task(plain(phase.name), total=phase.total, amount="", left="")
        self._rich.start()

    def update(self, phase: _Phase) -> None:
        seconds = time.monotonic() - phase.started
        text = amount(phase.done, phase.total, phase.unit)
        left = ""
        if phase.done:
            text = f"{text}, {rate_text(phase.done, seconds, phase.unit)}"
            left = f"{human_seconds((phase.total - phase.done) * seconds / phase.done)} left"
        self._rich.update(self._task, completed=phase.done, amount=text, left=left)

    def show_above(self, text: str) -> None:
        """Show a line that stays, above the bar."""
        self._rich.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def close(self) -> None:
        """Clear the bar."""
        self._rich.stop()


def _rich_progress() -> "Progress":
    """Import rich, here alone: that takes 50 ms, which only those pay who look at a bar."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn

    columns = ("{task.description}", "{task.fields[amount]}", "{task.fields[left]}")
    name, amounts, left = (TextColumn(column, markup=False) for column in columns)
    return Progress(
        name,
        BarColumn(bar_width=None),
        amounts,
        left,
        console=RichConsole(file=sys.stderr),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
