"""Which video sizes a mesh can cut, found out without tracing, and the nearest ones to a size that it cannot.

What depends on the size is the VAE alone: tokens are padded, wherever a plan cuts them. The decoder and the encoder
have plans of their own, and each condition of theirs is on one dimension of the video.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import VIDEO_DIMS, Families
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry, GeometryError

LATENT, PIXELS = "latent_video", "pixel_video"  # the values that the VAE's plans cut
# Frames before its own that a convolution of the decoder sees: all kernels are 3 long in time.
CAUSAL_HALO = 2
_TIME, _HEIGHT, _WIDTH = (VIDEO_DIMS[letter] for letter in "thw")
NEAREST = 2  # sizes that an error names


@dataclass(frozen=True)
class SizeGrid:
    """The sizes of one model that one plan can cut over one mesh.

    Height and width are multiples of `height` and `width`; frames are `least_frames` or that and multiples of `frames`.
    """

    plan: str
    height: int
    width: int
    frames: int
    least_frames: int

    def faults(self, geometry: Geometry) -> list[str]:
        """Return what the plan wants and the geometry has not, in words."""
        wanted = []
        for name, size, multiple in (
            ("height", geometry.height, self.height),
            ("width", geometry.width, self.width),
        ):
            if size <= 0 or size % multiple:
                wanted.append(f"a {name} that is a multiple of {multiple}")
        if geometry.frames < self.least_frames:
            wanted.append(f"{self.least_frames} frames or more")
        return wanted

    def near(self, geometry: Geometry) -> Iterator[Geometry]:
        """Yield the sizes that this plan can cut and that are next to a geometry in each dimension."""
        heights = _multiples_near(geometry.height, self.height)
        widths = _multiples_near(geometry.width, self.width)
        over = max(geometry.frames - self.least_frames, 0)
        frames = {self.least_frames + over // self.frames * self.frames}
        frames.add(self.least_frames + -(-over // self.frames) * self.frames)
        for size in product(heights, widths, frames):
            yield Geometry(*size)


def check_geometries(
    geometries: Sequence[Geometry], mesh: Mesh, names: Sequence[str], families: Families, config: MochiConfig
) -> None:
    """Raise GeometryError for the first geometry that the model cannot make or that no plan can cut over the mesh.

    One plan of each of the target's `families` has to cut all geometries: the one that `names` has for it, or any. The
    error says which sizes are the nearest that would work with the other geometries.
    """
    for index, geometry in enumerate(geometries):
        others = list(geometries[:index])
        fault = _fault([*others, geometry], mesh, names, families, config)
        if fault is not None:
            near = _nearest(others, geometry, mesh, names, families, config)
            raise GeometryError(f"{fault}; {near}")


def size_grid(plan: Plan, mesh: Mesh, config: MochiConfig) -> SizeGrid:
    """Return the sizes that a plan of the VAE can cut.

    A cut that has to be even divides the latent's rows or columns by the devices; others pad them. A piece of the
    latent in time, padded too, may not be shorter than what the convolution of the next piece sees of it.
    """
    time, space = math.prod(config.vae.time_factors), math.prod(config.vae.space_factors)
    multiples = {_HEIGHT: space * config.dit.patch, _WIDTH: space * config.dit.patch}
    least_frames = 1
    for cut in plan.values.get(LATENT) or plan.values.get(PIXELS, ()):
        devices = mesh[cut.axis]
        if cut.even:
            multiples[cut.dim] = math.lcm(multiples[cut.dim], space * devices)
        if cut.dim == _TIME and devices > 1:
            least_frames = (CAUSAL_HALO - 1) * devices * time + 1
    return SizeGrid(plan.name, multiples[_HEIGHT], multiples[_WIDTH], time, least_frames)


def _fault(
    geometries: Sequence[Geometry], mesh: Mesh, names: Sequence[str], families: Families, config: MochiConfig
) -> str | None:
    """Return why the last of the geometries cannot be compiled together with the others, or None."""
    geometry = geometries[-1]
    try:
        geometry.latent_size(config)
    except GeometryError as error:
        return str(error)
    for plans in _video_plans(families, names):
        grids = [size_grid(plan, mesh, config) for plan in plans]
        usable = [grid for grid in grids if not any(grid.faults(other) for other in geometries[:-1])]
        if not any(not grid.faults(geometry) for grid in usable):
            wanted = [f"{grid.plan} wants {' and '.join(grid.faults(geometry))}" for grid in usable]
            together = f" together with {', '.join(map(str, geometries[:-1]))}" if len(geometries) > 1 else ""
            return f"geometry {geometry} cannot be cut over {mesh[0]}x{mesh[1]}{together}: {', '.join(wanted)}"
    return None


def _video_plans(families: Families, names: Sequence[str]) -> Iterator[list[Plan]]:
    """Yield, for each program that works on a video, the plans that it may have."""
    for plans in families.values():
        if any(value in plan.values for plan in plans.values() for value in (LATENT, PIXELS)):
            yield [plans[name] for name in names if name in plans] or list(plans.values())


def _nearest(
    others: list[Geometry],
    geometry: Geometry,
    mesh: Mesh,
    names: Sequence[str],
    families: Families,
    config: MochiConfig,
) -> str:
    """Return the sizes nearest to a geometry that can be compiled together with `others`, in words."""
    grids = [size_grid(plan, mesh, config) for plans in _video_plans(families, names) for plan in plans]
    candidates = {near for grid in grids for near in grid.near(geometry)}
    work = [near for near in candidates if _fault([*others, near], mesh, names, families, config) is None]
    work.sort(key=lambda near: (_distance(near, geometry), near.height, near.width, near.frames))
    if not work:
        return "no size near it works"
    if len(work) == 1:
        return f"the nearest that works is {work[0]}"
    return "the nearest that work are " + " and ".join(map(str, work[:NEAREST]))


def _distance(a: Geometry, b: Geometry) -> float:
    """Return how much two sizes differ: the sum over their dimensions of the change, as a share of the larger size."""
    pairs = ((a.height, b.height), (a.width, b.width), (a.frames, b.frames))
    return sum(abs(x - y) / max(x, y, 1) for x, y in pairs)


def _multiples_near(size: int, multiple: int) -> set[int]:
    """Return the positive multiples next to a size, below and above or at it."""
    return {max(size // multiple, 1) * multiple, max(-(-size // multiple), 1) * multiple}
