"""`mochi-bench distributed`: a guided step on a mesh of processes against one process that simulates the mesh."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.partition.mesh import parse_mesh
from mochi_aot.compiler.reference.geometry import parse_geometry
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.targets import open_backend
from mochi_aot.runtime.weight_reader import WeightReader
from mochi_aot.runtime.world import World
from mochi_aot.tools.benchmarks.guided_steps import BundleStep, make_inputs
from mochi_aot.tools.benchmarks.report import machine_line, spread, spread_table
from mochi_aot.tools.benchmarks.sizes import SIZES
from mochi_aot.tools.benchmarks.step_benchmark import check_difference
from mochi_aot.tools.benchmarks.timing import Comparison, compare

# Of an update's largest value: the same sums in the same order, but kernels may round by where operands lie in memory.
TOLERANCE = 1e-5
_END_SECONDS = 30.0


@dataclass(frozen=True)
class DistributedResult:
    """What was measured. `alone` is of a simulation with as many threads as each process, `whole` with all cores'."""

    mesh: str
    plan: str
    threads: int
    cores: int
    difference: float
    alone: Comparison
    whole: Comparison


def measure_distributed(
    folder: Path, size: str, mesh: str, plans: tuple[str, ...], repetitions: int, report: Callable[[str], None]
) -> DistributedResult:
    """Compile a model for `mesh` in `folder`, check that both give the same, then time them in turns.

    Raise MochiError, such as ResultsDifferError.
    """
    report("writing a checkpoint and compiling it")
    shape, bundle_path = parse_mesh(mesh), folder / "bundle"
    write_checkpoint(folder / "checkpoint", PRESETS[SIZES[size].preset], "diffusers")
    job = Job(shape, (parse_geometry(str(SIZES[size].step)),), plans, "float32")
    compile_bundle(open_checkpoint(folder / "checkpoint"), job, bundle_path)
    processes, cores = shape[0] * shape[1], len(os.sched_getaffinity(0))
    threads = max(1, cores // processes)
    torch.set_num_threads(threads)
    simulated = Pipeline.open(bundle_path, "cpu")
    inputs = make_inputs(simulated, PRESETS[SIZES[size].preset].dit.caption_width)
    report("starting the processes")
    with started(bundle_path, processes, threads) as pipeline:
        ours, theirs = BundleStep(pipeline, inputs), BundleStep(simulated, inputs)
        difference = check_difference(ours(), theirs(), inputs.latents, TOLERANCE, "one process's")
        report("timing")
        alone = compare(ours, theirs, repetitions)

        def on_all_cores() -> np.ndarray:
            torch.set_num_threads(cores)
            try:
                return theirs()
            finally:
                torch.set_num_threads(threads)

        whole = compare(ours, on_all_cores, repetitions)
        pipeline.close()
    plan = simulated.bundle.program("denoise", simulated.geometry()).plan
    return DistributedResult(mesh, plan, threads, cores, difference, alone, whole)


@contextmanager
def started(path: Path, processes: int, threads: int) -> Iterator[Pipeline]:
    """Yield a pipeline of which this process is rank 0, and as many others as the bundle's mesh wants are the rest."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    others = []
    for rank in range(1, processes):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "OMP_NUM_THREADS": threads}
        environment = os.environ | {name: str(value) for name, value in names.items()}
        command = [sys.executable, "-m", "mochi_aot.run", str(path)]
        others.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
    try:
        bundle = Bundle.open(path).for_device(0)
        backend = open_backend(bundle, "cpu", World(0, processes, 0))
        yield Pipeline(bundle, backend, WeightReader(bundle))
        for process in others:
            process.wait(_END_SECONDS)
    finally:
        for process in others:
            process.kill()
            process.wait()


def distributed_numbers(result: DistributedResult) -> dict[str, Any]:
    """Return what `--json` writes. Times are in seconds."""
    return {
        "mesh": result.mesh,
        "plan": result.plan,
        "threads_per_process": result.threads,
        "difference": result.difference,
        "tolerance": TOLERANCE,
        "processes": spread(result.alone.ours),
        "simulated": spread(result.alone.theirs),
        "ratio": spread(result.alone.ratios),
        "simulated_on_all_cores": spread(result.whole.theirs),
        "ratio_on_all_cores": spread(result.whole.ratios),
    }


def distributed_report(numbers: dict[str, Any]) -> str:
    """Return the same for people."""
    names = ("processes", "simulated", "ratio", "simulated_on_all_cores", "ratio_on_all_cores")
    return "\n".join(
        [
            machine_line(numbers),
            f"mesh {numbers['mesh']}, plan {numbers['plan']}, {numbers['threads_per_process']} threads a process",
            f"difference of the results {numbers['difference']:.1e}, at most {numbers['tolerance']:.1e} allowed",
            "",
            spread_table("seconds per step", {name.replace("_", " "): numbers[name] for name in names}),
            "",
            "ratio: one process that simulates the mesh over as many processes as it has devices",
        ]
    )
