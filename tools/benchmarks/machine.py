"""What a measurement ran on."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from mochi_aot.artifacts.versions import versions

CPU_INFO = Path("/proc/cpuinfo")
PACKAGES = ("torch", "diffusers")


def describe_machine(threads: int) -> dict[str, str | int | float]:
    """Return CPU, cores, threads in use, load, versions and time; nothing that names the host or its owner.

    `load` is the number of running threads, averaged over the last minute: well above `threads` if others ran too.
    """
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "load": round(os.getloadavg()[0], 2),
        **versions(PACKAGES),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    """Return the model name of the first CPU, as the kernel knows it."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
