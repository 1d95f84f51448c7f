"""Which of a bundle's video sizes to make, by the name that the command lines use."""

from collections.abc import Sequence

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, Program
from mochi_aot.runtime.errors import OptionError

ANY = "*"  # stands for whatever height, width or number of frames the bundle has


def geometry_name(geometry: Geometry) -> str:
    """Return HEIGHTxWIDTHxFRAMES."""
    return "x".join(map(str, _sizes(geometry)))


def find_geometry(bundle: Bundle, name: str | None) -> Geometry:
    """Return the bundle's first geometry that `name`, HxWxF, fits; its first one for None.

    A "*" in the place of a number fits every number. Raise OptionError listing all geometries if none fits.
    """
    geometries = bundle.manifest.geometries
    wanted = [ANY] * 3 if name is None else name.split("x")
    for geometry in geometries:
        if len(wanted) == 3 and all(map(_fits, wanted, _sizes(geometry))):
            return geometry
    known = ", ".join(geometry_name(geometry) for geometry in geometries)
    raise OptionError(f"no geometry {name!r} in the bundle; it has {known} (height x width x frames)")


def with_sizes(name: str | None, height: int | None, width: int | None, frames: int | None) -> str | None:
    """Return the geometry `name` with those of its three numbers replaced that are given; None if there are none.

    Raise OptionError for a name that has not three parts.
    """
    given = (height, width, frames)
    if given == (None, None, None):
        return name
    parts = [ANY] * 3 if name is None else name.split("x")
    if len(parts) != 3:
        raise OptionError(f"geometry is {name!r}, expected HxWxF: height, width and frames")
    return "x".join(part if size is None else str(size) for part, size in zip(parts, given, strict=True))


def fitting_geometries(bundle: Bundle, role: str, name: str, shape: Sequence[int]) -> list[Geometry]:
    """Return the geometries whose program of this role takes an array of this shape as its input `name`."""
    return [
        geometry
        for geometry in bundle.manifest.geometries
        if role in geometry.programs and input_shape(bundle.program(role, geometry), name) == tuple(shape)
    ]


def require_fitting(bundle: Bundle, role: str, name: str, shape: Sequence[int]) -> Geometry:
    """Return the first of `fitting_geometries`. Raise OptionError with the shapes that fit if there is none."""
    fitting = fitting_geometries(bundle, role, name, shape)
    if fitting:
        return fitting[0]
    shapes = [list(input_shape(bundle.program(role, one), name)) for one in bundle.manifest.geometries]
    known = " or ".join(map(str, shapes))
    raise OptionError(f"{name} has shape {list(shape)}, {role} of this bundle wants {known}")


def require_frames(bundle: Bundle, shape: Sequence[int]) -> Geometry:
    """Return the geometry of frames [F, H, W, 3]. Raise OptionError with the shapes that fit if there is none."""
    geometries = bundle.manifest.geometries
    shapes: dict[tuple[int, ...], Geometry] = {(one.frames, one.height, one.width, 3): one for one in geometries}
    if tuple(shape) in shapes:
        return shapes[tuple(shape)]
    known = " or ".join(str(list(one)) for one in shapes)
    raise OptionError(f"frames has shape {list(shape)}, encode of this bundle wants {known}")


def input_shape(program: Program, name: str) -> tuple[int, ...]:
    """Return the global shape of a program's input. Raise BundleError if there is no such input."""
    for item in program.inputs:
        if item.name == name:
            return tuple(item.spec.shape)
    raise BundleError(f"program {program.name!r} of the bundle has no input {name!r}; compile the bundle again")


def _sizes(geometry: Geometry) -> tuple[int, int, int]:
    return geometry.height, geometry.width, geometry.frames


def _fits(wanted: str, size: int) -> bool:
    return wanted in (ANY, str(size))
