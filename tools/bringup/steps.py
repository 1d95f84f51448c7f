"""The steps of a bring-up, from what touches least to what touches most. Each opens the machine anew."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from mochi_aot import __version__
from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.defaults import MOCK
from mochi_aot.runtime.targets import close_backend, open_backend
from mochi_aot.runtime.ttnn.mock.installation import real_sfpi, ttnn_package, ttnn_version
from mochi_aot.tools.bringup.device_profiler import NOT_BUILT_IN, VARIABLES, chip_seconds
from mochi_aot.tools.bringup.first_block import first_block
from mochi_aot.tools.bringup.progress import ProgressFile
from mochi_aot.tools.doctor.host import Host

TOKENS = 7, 40  # of a prompt and a negative prompt
# A definition is computed by torch on the host, in float32: seconds for 100 MB of weights, hours for the full model.
SMALL_BYTES = 500e6


@dataclass(frozen=True)
class Run:
    """What every step is given."""

    bundle: Bundle
    device: str
    progress: ProgressFile


def versions(run: Run) -> dict[str, Any]:
    """Return what is installed and plugged in, as files say, without opening anything."""
    manifest = run.bundle.manifest
    sfpi = real_sfpi(ttnn_package())
    kernels, host = manifest.kernels, Host()
    return {
        "mochi-aot": __version__,
        "ttnn": ttnn_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "driver": host.driver(),
        "boards": [asdict(board) for board in host.boards()],
        "hugepages": {"gigabyte": host.gigabyte_pages(), "mounted": host.has_gigabyte_mount()},
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "sfpi": None if sfpi is None else str(sfpi),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith("TT_")},
        "bundle": {
            "ttnn": manifest.ttnn,
            "mesh": manifest.mesh,
            "geometries": [f"{one.height}x{one.width}x{one.frames}" for one in manifest.geometries],
            "kernels": None if kernels is None else {"count": kernels.count, "stand_in": kernels.stand_in},
        },
    }


def mesh(run: Run) -> dict[str, Any]:
    """Open the mesh and return what ttnn says of its chips: cores, links of each axis, memory."""
    with _opened(run) as backend:
        import ttnn  # not before the mesh is open, which sets ttnn's environment first

        opened = backend.mesh
        grid = opened.compute_with_storage_grid_size()
        return {
            "arch": opened.arch().name.lower(),
            "shape": list(opened.shape),
            "grid": [grid.x, grid.y],
            "links": [ttnn.get_num_links(opened, axis) for axis in (0, 1)],
            "dram_bytes": backend.memory_bytes(),
            "l1_bytes": _size(opened, ttnn.BufferType.L1),
        }


def load(run: Run) -> dict[str, Any]:
    """Load each program's weights, as a video does, and return bytes and seconds."""
    programs = {}
    with _opened(run) as backend:
        import ttnn

        for geometry in run.bundle.manifest.geometries[:1]:
            for role in (role for role in ROLES if role in geometry.programs):
                names = [weight.name for weight in run.bundle.program(role, geometry).weights]
                started = time.monotonic()
                backend.load_weights(run.bundle, names, run.progress.weights_of(run.bundle))
                ttnn.synchronize_device(backend.mesh)
                seconds = time.monotonic() - started
                size = sum(os.stat(path).st_size for name in names if (path := run.bundle.tensor_file(name)))
                programs[role] = {
                    "file_bytes": size,
                    "seconds": round(seconds, 3),
                    "bytes_per_second": round(size / seconds),
                    "dram_bytes": _taken(backend.mesh, ttnn.BufferType.DRAM),
                }
                backend.free_weights(names)
    return {"programs": programs}


def values(run: Run) -> dict[str, Any]:
    """Compare each instruction with its definition; "problem" names the first that departs."""
    size = sum(file.nbytes for file in run.bundle.manifest.files)
    if size > SMALL_BYTES:
        return {"skipped": f"the bundle has {size / 1e9:.1f} GB; instructions are compared on one of one or two layers"}
    with _opened(run) as backend:
        from mochi_aot.tools.golden.check import check_programs
        from mochi_aot.tools.golden.known_run import KnownRun

        known = KnownRun(backend, run.bundle, _tokens(run.bundle), run.progress.weights_of(run.bundle))
        reports = list(check_programs(known, ROLES, run.progress.instruction))
    found: dict[str, Any] = {"programs": [asdict(report) for report in reports]}
    wrong = [report for report in reports if not report.right]
    if wrong and run.device != MOCK:  # whose numbers are zeros
        from mochi_aot.tools.commands.values_report import findings

        found["problem"] = "; ".join(findings(wrong))
    return found


def block(run: Run) -> dict[str, Any]:
    """Run the first block of the denoising step alone, as `programs` does."""
    return _timed_programs(run, ["denoise"], lambda program: first_block(program, _blocks(run.bundle)))


def programs(run: Run) -> dict[str, Any]:
    """Run each program untraced, waiting for the chips after each instruction; return seconds and memory by op."""
    return _timed_programs(run, ROLES, lambda program: program)


def _blocks(bundle: Bundle) -> int:
    """Return the number of the transformer's blocks; one for a model that does not say."""
    transformer = bundle.manifest.model.get("dit")
    layers = transformer.get("layers") if isinstance(transformer, dict) else None
    return layers if isinstance(layers, int) and layers > 0 else 1


def _timed_programs(run: Run, roles: Iterable[str], part: Callable[[Program], Program | None]) -> dict[str, Any]:
    """Run what `part` makes of these programs, and all of those that they read from."""
    found = {}
    with _opened(run) as backend:
        from mochi_aot.tools.bringup.timed import Timed
        from mochi_aot.tools.golden.known_run import KnownRun

        known = KnownRun(backend, run.bundle, _tokens(run.bundle), run.progress.weights_of(run.bundle))
        for ready in known.each(roles):
            wanted = part(ready.program) if ready.role in roles else ready.program
            name = f"{ready.geometry} {ready.role}"
            if ready.failure is not None or wanted is None:
                found[name] = {"problem": ready.failure} if ready.failure else {"skipped": "it does not attend"}
                continue
            ready = replace(ready, program=wanted)
            known.run(ready)  # builds what kernels there are to build
            timed = Timed.of(backend.mesh, ready, run.progress.instruction)
            known.run(ready, timed)
            kernels = backend.kernel_use()
            found[name] = timed.numbers() | {"kernels": None if kernels is None else asdict(kernels)}
    problems = [f"{name}: {one['problem']}" for name, one in found.items() if "problem" in one]
    return {"programs": found} | ({"problem": "; ".join(problems)} if problems else {})


def profile(run: Run) -> dict[str, Any]:
    """Run the first block of the denoising step, and return what the chips counted, by ttnn's device profiler."""
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    try:
        return _profiled(run)
    except MochiError as error:
        if NOT_BUILT_IN not in str(error):
            raise
        return {"skipped": "this ttnn was built without its device profiler; seconds of programs are the host's"}


def _profiled(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with _opened(run) as backend:
        import ttnn

        from mochi_aot.tools.golden.known_run import KnownRun

        known = KnownRun(backend, run.bundle, _tokens(run.bundle), run.progress.weights_of(run.bundle))
        for ready in known.each(["denoise"]):
            part = first_block(ready.program, _blocks(run.bundle)) if ready.role == "denoise" else ready.program
            if part is None or ready.failure is not None:
                continue
            known.run(replace(ready, program=part))
            ttnn.synchronize_device(backend.mesh)
            ttnn.ReadDeviceProfiler(backend.mesh)
            read = ttnn._ttnn.profiler.get_latest_programs_perf_data()
            found[f"{ready.geometry} {ready.role}"] = chip_seconds(read)
    return {"programs": found}


def trace(run: Run) -> dict[str, Any]:
    """Run the denoising step untraced, recording, and by its trace; return the seconds of each."""
    found: dict[str, Any] = {}
    with _opened(run) as backend:
        from mochi_aot.runtime.ttnn.trace import can_trace
        from mochi_aot.tools.golden.known_run import KnownRun

        if not can_trace():
            return {"skipped": f"nothing can be recorded on the device {run.device}"}
        known = KnownRun(backend, run.bundle, _tokens(run.bundle), run.progress.weights_of(run.bundle))
        for ready in known.each(["denoise"]):
            executable, seconds = None, []
            for turn in ("untraced", "recording", "traced") if ready.role == "denoise" else ("once",):
                run.progress.say(f"program {ready.role}, {turn}")
                started = time.monotonic()
                if executable is None:
                    executable = known.run(ready)
                else:
                    executable.run(ready.inputs)
                seconds.append({"run": turn, "seconds": round(time.monotonic() - started, 4)})
            found[f"{ready.geometry} {ready.role}"] = seconds
    return {"programs": found}


STEPS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "versions": versions,
    "mesh": mesh,
    "load": load,
    "values": values,
    "block": block,
    "programs": programs,
    "profile": profile,
    "trace": trace,
}


@contextmanager
def _opened(run: Run) -> Iterator[Any]:
    """Open the bundle's mesh on the device, and close it at the end."""
    run.progress.say("opening the mesh")
    backend = open_backend(run.bundle, run.device)
    try:
        yield backend
        run.progress.say("closing the mesh")  # not after an error, of which the last line says where it was
    finally:
        close_backend(backend)


def _tokens(bundle: Bundle) -> tuple[int, int]:
    longest = bundle.manifest.text_length
    return min(TOKENS[0], longest), min(TOKENS[1], longest)


def _size(opened: Any, kind: Any) -> int:
    import ttnn

    view = ttnn.get_memory_view(opened, kind)
    return int(view.total_bytes_per_bank * view.num_banks)


def _taken(opened: Any, kind: Any) -> int:
    import ttnn

    view = ttnn.get_memory_view(opened, kind)
    return int(view.total_bytes_allocated_per_bank * view.num_banks)
