"""Process start to the first op on a mocked mesh: a bundle against converting at each start, and torch's import.

The bundle's process finds no torch, as on a host with the base install: a folder of links stands for site-packages.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.tools.benchmarks.contenders import Runs, check, in_turns
from mochi_aot.tools.benchmarks.file_cache import warm
from mochi_aot.tools.benchmarks.timing import spread, spread_rows
from mochi_aot.tools.commands.text import table

# Size -> preset. (A tiny model's heads are narrower than ttnn's tiles.)
SIZES = {"small": "bench", "middle": "middle", "full": "mochi-1"}
MESH, GEOMETRY = "2x4", "64x128x13"
BUNDLE, FROM_TORCH, IMPORT_TORCH = ARMS = ("bundle", "from_torch", "import_torch")
# What `import ttnn` would load where it can, and a host without torch has not.
ABSENT = ("torch", "torchgen", "functorch", "torchvision", "transformers", "diffusers")


@dataclass(frozen=True)
class TtnnStartResult:
    """What each contender printed in each repetition; repetition i of all ran one after the other."""

    size: str
    preset: str
    runs: Runs


def measure_ttnn_start(folder: Path, size: str, repetitions: int, report: Callable[[str], None]) -> TtnnStartResult:
    """Makes what is measured in `folder`, unless it is there, then runs all contenders in turns, files cached.

    Raises MochiError if a contender fails.
    """
    preset = SIZES[size]
    checkpoint, bundle = folder / f"{preset}.checkpoint", folder / f"{preset}.ttnn.bundle"
    _prepare(checkpoint, bundle, preset, report)
    thin = _without_torch(folder)
    warm(path for path in [*(bundle / "weights").iterdir(), *checkpoint.rglob("*.safetensors")])

    def run(arm: str) -> dict[str, Any]:
        return _run(arm, bundle, checkpoint, thin if arm == BUNDLE else None)

    report("timing")
    for arm in ARMS:
        run(arm)  # libraries come from the file cache too
    return TtnnStartResult(size, preset, in_turns(ARMS, repetitions, run, report))


def ttnn_start_numbers(result: TtnnStartResult) -> dict[str, Any]:
    """What `--json` writes. Seconds, and ratios repetition by repetition."""
    seconds = {arm: [run["seconds"] for run in runs] for arm, runs in result.runs.items()}
    return {
        "size": result.size,
        "preset": result.preset,
        "mesh": MESH,
        "seconds": {arm: spread(values) for arm, values in seconds.items()},
        "parts": {
            arm: {part: spread([run["parts"][part] for run in runs]) for part in runs[0]["parts"]}
            for arm, runs in result.runs.items()
        },
        "ratios": {
            f"{other} over bundle": spread([b / a for a, b in zip(seconds[BUNDLE], seconds[other], strict=True)])
            for other in (FROM_TORCH, IMPORT_TORCH)
        },
    }


def ttnn_start_report(numbers: dict[str, Any]) -> str:
    """The same for people."""
    parts = {f"{arm}: {part}": values for arm in (BUNDLE, FROM_TORCH) for part, values in numbers["parts"][arm].items()}
    columns, count = ["median", "lowest", "highest"], len(numbers["seconds"][BUNDLE]["all"])
    return "\n".join(
        [
            ", ".join(f"{key} {value}" for key, value in numbers["machine"].items()),
            f"size {numbers['size']} (preset {numbers['preset']}), mocked mesh {numbers['mesh']}, text encoder",
            "",
            table(["seconds to the first op", *columns], spread_rows(numbers["seconds"])),
            "",
            table(["of these", *columns], spread_rows(parts)),
            "",
            table(["ratio", *columns], spread_rows(numbers["ratios"])),
            "",
            f"{count} repetitions, ratios within each; the bundle's process has no torch",
        ]
    )


def _prepare(checkpoint: Path, bundle: Path, preset: str, report: Callable[[str], None]) -> None:
    """The command lines, each in a process of its own: ttnn knows one mesh a process."""
    if not checkpoint.exists():
        report("writing a checkpoint")
        _tool("checkpoint", str(checkpoint), "--preset", preset, "--dtype", "bfloat16")
    if not bundle.exists():
        report("compiling it")
        options = ["--mesh", MESH, "--target", "ttnn", "--geometry", GEOMETRY]
        _tool("compile", "--checkpoint", str(checkpoint), *options, "-o", str(bundle))


def _tool(name: str, *arguments: str) -> None:
    command = [sys.executable, "-m", f"mochi_aot.tools.commands.{name}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check(done, f"mochi-{name}")


def _without_torch(folder: Path) -> Path:
    """A folder of links to what Python finds now, but for ABSENT."""
    import mochi_aot.artifacts
    import mochi_aot.runtime
    import mochi_aot.tools

    thin = folder / "packages"
    (thin / "mochi_aot").mkdir(parents=True, exist_ok=True)
    for place in (Path(entry) for entry in sys.path if Path(entry).name == "site-packages"):
        for path in place.iterdir():
            if path.name.split("-")[0] not in (*ABSENT, "mochi_aot"):
                _link(thin / path.name, path)
    for package in (mochi_aot.artifacts, mochi_aot.runtime, mochi_aot.tools):
        place = Path(str(package.__file__ or next(iter(package.__path__)))).absolute()
        place = place.parent if place.suffix else place
        _link(thin / "mochi_aot" / package.__name__.rpartition(".")[2], place)
    return thin


def _link(place: Path, target: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(target)


def _run(arm: str, bundle: Path, checkpoint: Path, packages: Path | None) -> dict[str, Any]:
    """`packages` replaces site-packages."""
    command = [sys.executable, *(["-S"] if packages else []), "-m", "mochi_aot.tools.benchmarks.ttnn_start_arms"]
    environment = {**os.environ, "PYTHONPATH": str(packages)} if packages else None
    done = subprocess.run(
        [*command, arm, str(bundle), str(checkpoint)], env=environment, capture_output=True, text=True, check=False
    )
    check(done, arm)
    numbers: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    if packages and numbers["torch"]:
        raise MochiError(f"{arm} was to run without torch, but imported it")
    return numbers
