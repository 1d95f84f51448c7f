"""The ledger's numbers and its Chrome trace."""

import json

import pytest

from mochi_aot.runtime.ledger import READ, READER, STEP, WAIT, Ledger, Span
from mochi_aot.tools.commands.ledger_report import ledger_report


def filled() -> Ledger:
    ledger = Ledger()
    ledger.spans = [
        Span("imports", "main", 0.0, 0.25),
        Span(READ, READER, 0.3, 0.5, 1000, 400),
        Span("denoise", "main", 0.5, 3.0),
        Span(WAIT, "main", 0.5, 0.125),
        *(Span(STEP, "main", 0.5, seconds) for seconds in (1.5, 0.5, 1.0)),
        Span(READ, READER, 0.8, 0.5, 1000, 600),
        Span("denoise", "main", 4.0, 1.0),
    ]
    ledger.marks = {"first program": 0.5}
    return ledger


def test_numbers() -> None:
    numbers = filled().numbers()
    assert numbers.pop("total") > 0
    assert numbers == {
        "seconds": {"imports": 0.25, "denoise": 4.0},
        "steps": {"all": [1.5, 0.5, 1.0], "first": 1.5, "median": 1.0},
        "weights": {"bytes": 2000, "from_disk": 1000, "seconds": 1.0, "bytes_per_second": 2000.0, "waited": 0.125},
        "at": {"first program": 0.5},
    }


def test_the_share_of_the_limit() -> None:
    ledger = filled()
    ledger.read_limit = 4000.0
    numbers = ledger.numbers()
    assert numbers["weights"]["limit"] == 4000.0
    assert numbers["weights"]["share_of_limit"] == 0.25  # 1000 bytes came from the disk in 1 s
    assert "1 kB from disk at 0.25 of its limit, 4 kB/s" in ledger_report(numbers)


def test_an_empty_ledger() -> None:
    numbers = Ledger().numbers()
    assert numbers["steps"] == {"all": []} and numbers["weights"]["bytes_per_second"] == 0
    assert "whole process" in ledger_report(numbers)


def test_the_chrome_trace() -> None:
    profile = json.loads(json.dumps(filled().profile()))
    events = profile["traceEvents"]
    assert {event["args"]["name"]: event["tid"] for event in events if event["ph"] == "M"} == {"main": 0, READER: 1}
    spans = [event for event in events if event["ph"] == "X"]
    assert len(spans) == 9 and all({"name", "pid", "tid", "ts", "dur"} <= event.keys() for event in spans)
    assert spans[1] == {
        "ph": "X",
        "name": READ,
        "pid": 1,
        "tid": 1,
        "ts": pytest.approx(3e5),
        "dur": pytest.approx(5e5),
        "args": {"bytes": 1000, "from_disk": 400},
    }
    assert [event["name"] for event in events if event["ph"] == "i"] == ["first program"]
    assert profile["ledger"]["seconds"]["denoise"] == 4.0


def test_the_report() -> None:
    lines = ledger_report(filled().numbers()).splitlines()
    assert [line.split("  ")[0] or line.split("  ")[1] for line in lines] == [
        "what", "imports", "denoise", "first step", "median step", "weights read", "waited for", "whole process"
    ]  # fmt: skip
    assert "2 kB, 2 kB/s, 1 kB from disk" in lines[5]


def test_spans_and_marks() -> None:
    ledger = Ledger()
    with ledger.span("one"):
        ledger.mark("m")
    first = ledger.marks["m"]
    ledger.mark("m")
    assert ledger.marks == {"m": first}
    with pytest.raises(ZeroDivisionError), ledger.span("two"):
        raise ZeroDivisionError
    assert [span.name for span in ledger.spans] == ["one"]
    assert ledger.spans[0].start <= first <= ledger.now()
