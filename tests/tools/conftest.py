"""What the tests of all tools share."""

import pytest

from mochi_aot.tools.commands import console


@pytest.fixture(autouse=True)
def _no_lines_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep out of stderr the lines that a command says every ten seconds: on a slow machine there would be more."""
    monkeypatch.setattr(console, "PERIOD", 3600.0)
