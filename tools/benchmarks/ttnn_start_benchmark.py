"""`mochi-bench ttnn-start`: process start to the first op on a mocked mesh.

A bundle is compared with converting at each start, and with the import of torch alone.
The bundle's process finds no torch, as on a host with the base install: a folder of links stands for site-packages.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.tools.benchmarks.file_cache import warm
from mochi_aot.tools.benchmarks.prepare import prepare
from mochi_aot.tools.benchmarks.report import machine_line, ratios, spread, spread_table
from mochi_aot.tools.benchmarks.sizes import SIZES
from mochi_aot.tools.benchmarks.variants import Runs, in_turns, run_variant

MESH = "2x4"
BUNDLE, FROM_TORCH, IMPORT_TORCH = VARIANTS = ("bundle", "from_torch", "import_torch")
# What `import ttnn` would load where it can, and a host without torch has not.
ABSENT = ("torch", "torchgen", "functorch", "torchvision", "transformers", "diffusers")


@dataclass(frozen=True)
class TtnnStartResult:
    """What each variant printed in each repetition; repetition i of all ran one after the other."""

    size: str
    runs: Runs


def measure_ttnn_start(folder: Path, size: str, repetitions: int, report: Callable[[str], None]) -> TtnnStartResult:
    """Make what is measured in `folder`, unless it is there, then run all variants in turns, files cached.

    Raise MochiError if a variant fails.
    """
    checkpoint, bundle = prepare(folder, SIZES[size].preset, "ttnn", MESH, str(SIZES[size].ttnn_start), report)
    thin = _without_torch(folder)
    warm(path for path in [*(bundle / "weights").iterdir(), *checkpoint.rglob("*.safetensors")])

    def run(variant: str) -> dict[str, Any]:
        return _run(variant, [bundle, checkpoint], thin if variant == BUNDLE else None)

    report("timing")
    for variant in VARIANTS:
        run(variant)  # libraries come from the file cache too
    return TtnnStartResult(size, in_turns(VARIANTS, repetitions, run, report))


def ttnn_start_numbers(result: TtnnStartResult) -> dict[str, Any]:
    """Return what `--json` writes. Seconds, and ratios repetition by repetition."""
    seconds = {variant: [run["seconds"] for run in runs] for variant, runs in result.runs.items()}
    return {
        "size": result.size,
        "preset": SIZES[result.size].preset,
        "mesh": MESH,
        "seconds": {variant: spread(values) for variant, values in seconds.items()},
        "parts": {
            variant: {part: spread([run["parts"][part] for run in runs]) for part in runs[0]["parts"]}
            for variant, runs in result.runs.items()
        },
        "ratios": {
            f"{other} over bundle": spread(ratios(seconds[other], seconds[BUNDLE]))
            for other in (FROM_TORCH, IMPORT_TORCH)
        },
    }


def ttnn_start_report(numbers: dict[str, Any]) -> str:
    """Return the same for people."""
    parts = {f"{of}: {part}": values for of in (BUNDLE, FROM_TORCH) for part, values in numbers["parts"][of].items()}
    return "\n".join(
        [
            machine_line(numbers),
            f"size {numbers['size']} (preset {numbers['preset']}), mocked mesh {numbers['mesh']}, text encoder",
            "",
            spread_table("seconds to the first op", numbers["seconds"]),
            "",
            spread_table("of these", parts),
            "",
            spread_table("ratio", numbers["ratios"]),
            "",
            f"{len(numbers['seconds'][BUNDLE]['all'])} repetitions, ratios within each; "
            "the bundle's process has no torch",
        ]
    )


def _without_torch(folder: Path) -> Path:
    """Return a folder of links to what Python finds now, but for ABSENT."""
    import mochi_aot
    import mochi_aot.artifacts
    import mochi_aot.runtime
    import mochi_aot.tools

    thin = folder / "packages"
    (thin / "mochi_aot").mkdir(parents=True, exist_ok=True)
    for place in (Path(entry) for entry in sys.path if Path(entry).name == "site-packages"):
        for path in place.iterdir():
            if path.name.split("-")[0] not in (*ABSENT, "mochi_aot"):
                _link(thin / path.name, path)
    _link(thin / "mochi_aot/__init__.py", Path(str(mochi_aot.__file__)).absolute())
    for package in (mochi_aot.artifacts, mochi_aot.runtime, mochi_aot.tools):
        place = Path(str(package.__file__ or next(iter(package.__path__)))).absolute()
        place = place.parent if place.suffix else place
        _link(thin / "mochi_aot" / package.__name__.rpartition(".")[2], place)
    return thin


def _link(place: Path, target: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(target)


def _run(variant: str, folders: Sequence[Path], packages: Path | None) -> dict[str, Any]:
    """Run a variant; `packages` replaces site-packages."""
    numbers = run_variant("ttnn_start_variants", variant, folders, packages)
    if packages and numbers["torch"]:
        raise MochiError(f"{variant} was to run without torch, but imported it")
    return numbers
