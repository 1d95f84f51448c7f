"""What a bundle that is compiled from tells of the same programs: then they need not run dry again."""

from dataclasses import replace
from functools import partial

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.reusable import StoredBytes, is_whole
from mochi_aot.artifacts.versions import installed_version
from mochi_aot.artifacts.weight_file import link_or_copy
from mochi_aot.compiler.lower.target import Checked


def checked_before(
    writer: BundleWriter, geometries: list[schema.Geometry], settings: schema.MeshSettings, stand_in: bool
) -> Checked | None:
    """Return what the bundle that `writer` reuses records of these programs, with its kernels added to the new one.

    None unless it has just these programs, for the same mesh, run dry by this version of ttnn, and whole kernels; nor
    where these are a stand-in's and this host, by `stand_in`, has a compiler.
    """
    base = writer.reuse
    if base is None or base.manifest.ttnn != installed_version("ttnn") or base.manifest.mesh_settings != settings:
        return None
    kernels = base.manifest.kernels
    if kernels is None or (kernels.stand_in and not stand_in):
        return None
    paths = [file.path for file in base.manifest.files]
    theirs = {
        _size(geometry): {role: paths[file] for role, file in geometry.programs.items()} for geometry in _of(base)
    }
    ours = {_size(g): {role: writer.path(file) for role, file in g.programs.items()} for g in geometries}
    if ours != theirs or any(geometry.dram_peaks.keys() != geometry.programs.keys() for geometry in _of(base)):
        return None
    kept = base.manifest.files[kernels.file]
    archive = base.path.absolute() / kept.path
    if not is_whole(StoredBytes(archive, 0, kept.nbytes, kept.blake3)):
        return None
    index = writer.add_kernels(partial(link_or_copy, archive))
    peaks = {_size(geometry): geometry.dram_peaks for geometry in _of(base)}
    measured = [replace(geometry, dram_peaks=peaks[_size(geometry)]) for geometry in geometries]
    return Checked(measured, settings, replace(kernels, file=index))


def _of(bundle: Bundle) -> list[schema.Geometry]:
    return bundle.manifest.geometries


def _size(geometry: schema.Geometry) -> tuple[int, int, int]:
    return geometry.height, geometry.width, geometry.frames
