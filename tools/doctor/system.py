"""Checks of the host itself: folders, memory, processors, and the disk that the bundle is on."""

import errno
import os
import tempfile
from pathlib import Path

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.artifacts.layout import WEIGHT_FOLDER
from mochi_aot.artifacts.memory import free_memory
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.cache import VARIABLE, cache_folder
from mochi_aot.tools.commands.text import human_bytes
from mochi_aot.tools.doctor.check import Check, failed, ok, warning
from mochi_aot.tools.doctor.host import Host

READ_BYTES = 128 << 20  # at most, of the bundle's weights
_LONG = 300.0  # seconds of reading all weights, from which on a disk is worth a warning
_LOGS = 256 << 20  # bytes that ttnn's logs and other kernels may take


def home(host: Host) -> Check:
    """Tell whether HOME is set, without which importing ttnn 0.81.1 crashes."""
    value = host.environment.get("HOME")
    if value is None:
        return warning("home", "HOME is not set", "set it; mochi-aot's own commands give ttnn the cache folder instead")
    if not os.path.isdir(value):
        return warning("home", f"HOME is {value}, which is no folder", "set HOME to a folder that is there")
    return ok("home", value)


def scratch(bundle: Bundle) -> Check:
    """Tell whether the cache folder can be had, programs run in it, and the bundle's kernels fit."""
    try:
        folder = cache_folder()
        with tempfile.TemporaryFile(dir=folder):
            pass
        seen = os.statvfs(folder)
    except (MochiError, OSError) as error:
        return failed("scratch", str(error), f"set {VARIABLE} to a folder that can be written to", ExitCode.SYSTEM)
    free = seen.f_bavail * seen.f_frsize
    found = f"{folder}, {human_bytes(free)} free"
    if bundle.manifest.target == "torch":
        return ok("scratch", found)
    if seen.f_flag & os.ST_NOEXEC:
        advice = f"set {VARIABLE} to a folder where programs run"
        return failed("scratch", f"{folder} is mounted noexec", advice, ExitCode.SYSTEM)
    there = bundle.manifest.kernels
    needed = _LOGS + (bundle.manifest.files[there.file].nbytes if there is not None else 0)
    if free < needed:
        advice = f"make room, or set {VARIABLE} to another disk"
        return failed("scratch", f"{found}, {human_bytes(needed)} needed", advice, ExitCode.SYSTEM)
    return ok("scratch", found)


def temporary_files(host: Host) -> Check:
    """Tell whether /tmp takes files: ttnn makes nameless ones there, whatever TMPDIR is."""
    try:
        with tempfile.TemporaryFile(dir=host.root / "tmp"):
            pass
    except OSError as error:
        advice = "mount something small there (docker run --tmpfs /tmp)"
        return failed("tmp", f"/tmp takes no files: {error.strerror}", advice, ExitCode.SYSTEM)
    return ok("tmp", "/tmp takes files")


def memory(bundle: Bundle, free: int | None = None) -> Check:
    """Tell whether the weights, which are used where the file cache has them, fit into the memory that is free."""
    free = free_memory() if free is None else free
    weights = weight_bytes(bundle)
    found = f"{human_bytes(free)} free, the weights have {human_bytes(weights)}"
    if weights > free:
        return warning("memory", found, "more memory: weights that do not stay are read again in each step")
    return ok("memory", found)


def cores(host: Host) -> Check:
    """Tell how many processors this process may use, and what its control group lets it have of them."""
    count = len(os.sched_getaffinity(0))
    share = _share(host.text("sys/fs/cgroup/cpu.max"))
    found = f"{count}" if share is None else f"{count}, of which the control group gives {share:g}"
    if share is not None and share < min(count, 1):
        return warning(
            "cores", found, "give the container a whole core at least: probes wait behind the work otherwise"
        )
    return ok("cores", found)


def disk(bundle: Bundle, most: int = READ_BYTES) -> Check:
    """Read some of the bundle's weights past the file cache, and tell how long all of them would take."""
    from mochi_aot.tools.benchmarks.raw_reads import read_raw

    files, total = weight_files(bundle), weight_bytes(bundle)
    how = "past the file cache"
    try:
        try:
            read = read_raw(files, direct=True, most=most)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            read, how = read_raw(files, direct=False, most=most), "through the file cache, having no direct reads"
    except OSError as error:
        advice = "see what the system's log says of this disk"
        return failed("disk", f"cannot read the weights: {error}", advice, ExitCode.SYSTEM)
    rate = read.nbytes / max(read.seconds, 1e-6)
    found = f"{human_bytes(rate)}/s {how}, all weights in {total / max(rate, 1):.2g} s"
    if total > _LONG * rate:
        return warning("disk", found, "put the bundle on a faster disk: a start waits for all of it")
    return ok("disk", found)


def weight_files(bundle: Bundle) -> list[Path]:
    """Return the files with weights, the largest first: little is measured by small ones."""
    files = [file for file in bundle.manifest.files if file.path.startswith(f"{WEIGHT_FOLDER}/") and file.nbytes]
    return [bundle.path / file.path for file in sorted(files, key=lambda file: -file.nbytes)]


def weight_bytes(bundle: Bundle) -> int:
    """Return the bytes of all files with weights."""
    return sum(file.nbytes for file in bundle.manifest.files if file.path.startswith(f"{WEIGHT_FOLDER}/"))


def _share(text: str | None) -> float | None:
    """Return the processors that cpu.max of a control group gives, "max" or microseconds of a period; None for all."""
    words = (text or "").split()
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None
    return int(words[0]) / int(words[1])
