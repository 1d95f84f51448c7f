"""How much memory this process may still take, and the most that it took."""

import resource
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
# Hierarchies of control groups, by the controllers that /proc/self/cgroup lists: the second version's, the first's.
_HIERARCHIES = {"": ("sys/fs/cgroup", "memory.max"), "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes")}
_UNKNOWN = 4 << 30


def free_memory() -> int:
    """Return the bytes that the machine could give without swapping, or the limit of this process's control group if
    less."""
    amounts = [amount for path in _limits() if (amount := _number(_text(path))) is not None]
    for line in _text(_ROOT / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            amounts.append(int(line.split()[1]) * 1024)
    return min(amounts, default=_UNKNOWN)


def peak_memory() -> int:
    """Return the most bytes that this process had resident.

    getrusage's ru_maxrss counts what the parent had when it started this process, too: on hosts without /proc alone.
    """
    for line in _text(_ROOT / "proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limits() -> Iterator[Path]:
    """Yield files with the limits of this process's group and of those around it; in a container some are not to be
    seen."""
    for line in _text(_ROOT / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers in _HIERARCHIES:
            mount, name = _HIERARCHIES[controllers]
            own = Path(group.lstrip("/"))
            yield from (_ROOT / mount / folder / name for folder in (own, *own.parents))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None
