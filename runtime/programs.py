"""The programs of one geometry, and the proof that they fit together before any of them runs."""

from collections.abc import Mapping

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.artifacts.schema import Geometry, Program, TensorSpec
from mochi_aot.runtime.agreement import check_agreement
from mochi_aot.runtime.geometry import geometry_name


def load_programs(bundle: Bundle, geometry: Geometry) -> dict[str, Program]:
    """Return the programs that a geometry has, by role.

    Raise BundleError if they do not fit together, or are not what the manifest says.
    """
    programs = {role: bundle.program(role, geometry) for role in geometry.programs}
    try:
        check_wiring(programs)
        check_agreement(bundle.manifest, geometry, programs)
    except BundleError as error:
        where = f"{bundle.path}: geometry {geometry_name(geometry)}"
        raise BundleError(f"{where}: {error}; compile the bundle again") from None
    return programs


def require_encoder(bundle: Bundle, geometry: Geometry) -> None:
    """Raise BundleError, with the way out, for a bundle that cannot encode videos."""
    if "encode" not in geometry.programs:
        raise BundleError(
            f"{bundle.path} has no video encoder, which input videos need; compile it again with --with-encoder "
            "(and --reuse, which makes the encoder's weights alone)"
        )


def verify_programs(bundle: Bundle) -> None:
    """Load the programs of all geometries. Raise BundleError as `load_programs` does."""
    for geometry in bundle.manifest.geometries:
        load_programs(bundle, geometry)


def check_wiring(programs: Mapping[str, Program]) -> None:
    """Raise BundleError unless every input is given by the host or, equally placed, by an earlier program."""
    for role, program in programs.items():
        made = {
            item.name: item.spec
            for source in ROLES[role].sources
            if source in programs
            for item in programs[source].outputs
        }
        for item in program.inputs:
            if item.name not in ROLES[role].inputs:
                _check_connection(role, item.name, item.spec, made)
        absent = set(ROLES[role].results) - {item.name for item in program.outputs}
        if absent:
            raise BundleError(f"program {role} has no output {min(absent)!r}")
    if "denoise" in programs:
        _check_loop(programs["denoise"])


def _check_loop(denoise: Program) -> None:
    """Raise BundleError unless the latents that a step gives are the ones that the next step takes."""
    made = {item.name: item.spec for item in denoise.outputs}
    for item in denoise.inputs:
        if item.name == "latents":
            _check_connection("denoise", "latents", item.spec, made)


def _check_connection(role: str, name: str, spec: TensorSpec, made: Mapping[str, TensorSpec]) -> None:
    if name not in made:
        raise BundleError(f"program {role} wants {name!r}, which no earlier program makes")
    if made[name] != spec:
        raise BundleError(f"program {role} wants {name!r} as {spec}, but it is made as {made[name]}")
