"""Which of a bundle's video sizes to make, by the name that the command lines use."""

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, Program
from mochi_aot.runtime.errors import OptionError


def geometry_name(geometry: Geometry) -> str:
    """Returns HEIGHTxWIDTHxFRAMES."""
    return f"{geometry.height}x{geometry.width}x{geometry.frames}"


def find_geometry(bundle: Bundle, name: str | None) -> Geometry:
    """Returns the geometry called `name`, the bundle's first one for None. Raises OptionError listing all of them."""
    geometries = bundle.manifest.geometries
    if name is None:
        return geometries[0]
    for geometry in geometries:
        if geometry_name(geometry) == name:
            return geometry
    known = ", ".join(geometry_name(geometry) for geometry in geometries)
    raise OptionError(f"no geometry {name!r} in the bundle; it has {known} (height x width x frames)")


def input_shape(program: Program, name: str) -> tuple[int, ...]:
    """Returns the global shape of a program's input. Raises BundleError if there is no such input."""
    for item in program.inputs:
        if item.name == name:
            return tuple(item.spec.shape)
    raise BundleError(f"program {program.name!r} of the bundle has no input {name!r}; compile the bundle again")
