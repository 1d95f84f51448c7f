"""Dry runs on a mocked mesh: this process is pointed at the mesh, and the kernels that are built are kept apart.

Needs neither torch nor the compiler: a bundle is verified like this on a thin host. ttnn is imported when a mesh opens.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.kernel_archive import build_keys, kernel_folders, pack_kernels
from mochi_aot.artifacts.machines import WORMHOLE
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.runtime.cache import temporary_folder
from mochi_aot.runtime.errors import RefusalError
from mochi_aot.runtime.geometry import geometry_name
from mochi_aot.runtime.ttnn.environment import mock_folder
from mochi_aot.runtime.ttnn.fixed_path import is_fixed
from mochi_aot.runtime.ttnn.kernel_cache import KernelCache
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock
from mochi_aot.runtime.ttnn.mock.installation import ttnn_version
from mochi_aot.runtime.ttnn.mock.root import compiler_version
from mochi_aot.runtime.ttnn.program_report import ProgramReport, refusal_text

if TYPE_CHECKING:
    from mochi_aot.runtime.ttnn.dry_run import EmptyWeightsBackend, LoadWeights


@dataclass(frozen=True)
class LocalWeight:
    """What a chip holds of a weight, without its numbers."""

    shape: tuple[int, ...]
    dtype: str
    layout: str


@dataclass(frozen=True)
class MockedMesh:
    """A mocked mesh that this process was pointed at: an empty kernel cache, and what kernels built there depend on."""

    mesh: tuple[int, int]
    cache: Path
    root: Path
    stand_in: bool

    @property
    def found_elsewhere(self) -> bool:
        """Whether other processes find the kernels again that are built here: those of a root that only this one has
        are of no use to anybody, and make another bundle of the same input."""
        return is_fixed(self.root)

    def run(
        self,
        programs: dict[str, schema.Program],
        weights: Mapping[str, LocalWeight],
        settings: schema.MeshSettings,
        geometry: str,
    ) -> list[ProgramReport]:
        """Run one geometry's programs, by role, dry and return a report for each."""
        with opened(self.mesh, settings, KernelCache(self.cache)) as backend:
            return run_dry(backend, empty_weights(backend, weights), programs, geometry)

    def measure(
        self,
        geometries: list[schema.Geometry],
        programs: Mapping[int, schema.Program],
        weights: Mapping[str, LocalWeight],
        settings: schema.MeshSettings,
    ) -> list[schema.Geometry]:
        """Run the programs of a bundle dry and return its geometries with the most DRAM that each program takes.

        `programs` are by their index among the bundle's files. Raises RefusalError for a program that ttnn refuses.
        """
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
        return measured

    def kernels(self, add: Callable[[Callable[[Path], object]], int]) -> schema.Kernels:
        """Describe the kernels that dry runs have built, packed by `add`: see BundleWriter.add_kernels."""
        return schema.Kernels(
            file=add(lambda path: pack_kernels(self.cache, path)),
            count=len(kernel_folders(self.cache)),
            stand_in=self.stand_in,
            ttnn=ttnn_version(),
            compiler=compiler_version(self.root),
            root=str(self.root),
            build_keys=build_keys(self.cache),
        )


@contextmanager
def mocked_mesh(mesh: tuple[int, int], arch: str = WORMHOLE) -> Iterator[MockedMesh]:
    """Point this process at a mocked mesh; the kernels that are built there go away at the end.

    Raises TtnnAlreadyImportedError where this process has imported ttnn, and BackendError where nothing can be mocked.
    """
    with temporary_folder("kernels") as folder:
        environment = prepare_mock(mesh, mock_folder(), folder / "kernels", arch)
        enter_mock(environment)
        # As ttnn knows them: it notes such paths in what goes into the archive of kernels.
        cache, root = (Path(environment.variables[name]) for name in ("TT_METAL_CACHE", "TT_METAL_RUNTIME_ROOT"))
        yield MockedMesh(mesh, cache, root, not environment.real_compiler)


@contextmanager
def opened(
    mesh: tuple[int, int], settings: schema.MeshSettings | None, kernels: KernelCache
) -> Iterator["EmptyWeightsBackend"]:
    """Open the mocked mesh that this process was pointed at, and close it at the end."""
    from mochi_aot.runtime.ttnn.dry_run import EmptyWeightsBackend

    with _stdout_on_stderr():
        backend = EmptyWeightsBackend.open(mesh, settings, kernels)
        try:
            yield backend
        finally:
            backend.close()


def run_dry(
    backend: "EmptyWeightsBackend", load: "LoadWeights", programs: dict[str, schema.Program], geometry: str
) -> list[ProgramReport]:
    """Run programs dry, by role in the order of a video, and return a report for each."""
    from mochi_aot.runtime.ttnn.dry_run import DryRun

    return DryRun(backend, load, geometry).run(programs)


def empty_weights(backend: "EmptyWeightsBackend", weights: Mapping[str, LocalWeight]) -> Callable[[list[str]], None]:
    """Return a function that makes weights resident without contents, by name."""

    def load(names: list[str]) -> None:
        for name in names:
            weight = weights[name]
            backend.allocate_weight(name, weight.shape, weight.dtype, weight.layout)

    return load


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Send stdout to stderr: ttnn logs what it rejects on the process's stdout, which is for the result alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
