"""Dry runs before and beside a bundle: this process is pointed at a mocked mesh, and what is built is kept apart."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.artifacts.kernel_archive import build_keys, kernel_folders, pack_kernels
from mochi_aot.artifacts.layout import ROLES
from mochi_aot.runtime.cache import temporary_folder
from mochi_aot.runtime.errors import RefusalError
from mochi_aot.runtime.geometry import geometry_name
from mochi_aot.runtime.ttnn.environment import mock_folder
from mochi_aot.runtime.ttnn.kernel_cache import KernelCache
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock
from mochi_aot.runtime.ttnn.mock.installation import ttnn_version
from mochi_aot.runtime.ttnn.mock.root import compiler_version
from mochi_aot.tools.dry_run_report import ProgramReport, refusal_text

if TYPE_CHECKING:  # a bundle is verified without ttnn being imported here, and without the compiler
    from mochi_aot.compiler.lower.ttnn.dry_run import LocalWeight
    from mochi_aot.tools.dry_run import EmptyWeightsBackend, LoadWeights


@dataclass(frozen=True)
class MockedMesh:
    """A mocked mesh that this process was pointed at: an empty kernel cache, and what kernels built there depend on."""

    mesh: tuple[int, int]
    cache: Path
    root: Path
    stand_in: bool

    def run(
        self,
        programs: dict[str, schema.Program],
        weights: dict[str, "LocalWeight"],
        settings: schema.MeshSettings,
        geometry: str,
    ) -> list[ProgramReport]:
        """Runs one geometry's programs, by role, dry."""
        with opened(self.mesh, settings, KernelCache(self.cache)) as backend:
            return run_dry(backend, empty_weights(backend, weights), programs, geometry)

    def check(
        self,
        writer: BundleWriter,
        geometries: list[schema.Geometry],
        programs: dict[int, schema.Program],
        weights: dict[str, "LocalWeight"],
        settings: schema.MeshSettings,
    ) -> tuple[list[schema.Geometry], schema.Kernels]:
        """See compiler.lower.ttnn.dry_run.DryRun."""
        measured = []
        with opened(self.mesh, settings, KernelCache(self.cache)) as backend:
            load = empty_weights(backend, weights)
            for geometry in geometries:
                by_role = {role: programs[geometry.programs[role]] for role in ROLES if role in geometry.programs}
                reports = run_dry(backend, load, by_role, geometry_name(geometry))
                for report in reports:
                    if report.refusal is not None:
                        raise RefusalError(f"geometry {report.geometry}: {refusal_text(report, report.refusal)}")
                measured.append(replace(geometry, dram_peaks={report.role: report.peak_bytes for report in reports}))
        return measured, self._add_kernels(writer)

    def _add_kernels(self, writer: BundleWriter) -> schema.Kernels:
        return schema.Kernels(
            file=writer.add_kernels(lambda path: pack_kernels(self.cache, path)),
            count=len(kernel_folders(self.cache)),
            stand_in=self.stand_in,
            ttnn=ttnn_version(),
            compiler=compiler_version(self.root),
            root=str(self.root),
            build_keys=build_keys(self.cache),
        )


@contextmanager
def mocked_mesh(mesh: tuple[int, int]) -> Iterator[MockedMesh]:
    """Points this process at a mocked mesh; the kernels built there go away at the end."""
    with temporary_folder("kernels") as folder:
        environment = prepare_mock(mesh, mock_folder(), folder / "kernels")
        enter_mock(environment)
        # As ttnn knows them: it notes such paths in what goes into the archive of kernels.
        cache, root = (Path(environment.variables[name]) for name in ("TT_METAL_CACHE", "TT_METAL_RUNTIME_ROOT"))
        yield MockedMesh(mesh, cache, root, not environment.real_compiler)


@contextmanager
def opened(
    mesh: tuple[int, int], settings: schema.MeshSettings | None, kernels: KernelCache
) -> Iterator["EmptyWeightsBackend"]:
    """The mocked mesh that this process was pointed at, open."""
    from mochi_aot.tools.dry_run import EmptyWeightsBackend

    with _stdout_on_stderr():
        backend = EmptyWeightsBackend.open(mesh, settings, kernels)
        try:
            yield backend
        finally:
            backend.close()


def run_dry(
    backend: "EmptyWeightsBackend", load: "LoadWeights", programs: dict[str, schema.Program], geometry: str
) -> list[ProgramReport]:
    """A report for each program, by role in the order of a video."""
    from mochi_aot.tools.dry_run import DryRun

    return DryRun(backend, load, geometry).run(programs)


def empty_weights(backend: "EmptyWeightsBackend", weights: dict[str, "LocalWeight"]) -> Callable[[list[str]], None]:
    """Makes weights resident that have no contents."""

    def load(names: list[str]) -> None:
        for name in names:
            weight = weights[name]
            backend.allocate_weight(name, weight.shape, weight.dtype, weight.layout)

    return load


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """ttnn logs what it rejects on the process's stdout, whatever the log level; that is for the result alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
