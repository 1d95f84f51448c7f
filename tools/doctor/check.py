"""What one check says."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mochi_aot.artifacts.errors import ExitCode


class Verdict(StrEnum):
    """How a check ended: a warning leaves the bundle runnable, a failure does not."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """`found` is what was seen, `advice` what to do about it, and `code` of which kind a failure is."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""
    code: ExitCode = ExitCode.SUCCESS

    def plain(self) -> dict[str, Any]:
        """Return what JSON says."""
        fields = {"name": self.name, "verdict": str(self.verdict), "found": self.found, "advice": self.advice}
        return fields | ({"exit_code": int(self.code)} if self.verdict is Verdict.FAILED else {})


def ok(name: str, found: str) -> Check:
    """Return a check that has nothing to complain of."""
    return Check(name, Verdict.OK, found)


def warning(name: str, found: str, advice: str) -> Check:
    """Return a check of something with which the bundle runs, more slowly or not as it was made to."""
    return Check(name, Verdict.WARNING, found, advice)


def failed(name: str, found: str, advice: str, code: ExitCode = ExitCode.DEVICE) -> Check:
    """Return a check of something without which the bundle does not run."""
    return Check(name, Verdict.FAILED, found, advice, code)
