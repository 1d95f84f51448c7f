"""The size of a video and of its latent."""

import math
import re
from dataclasses import dataclass

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.compiler.reference.config import MochiConfig


class GeometryError(MochiError):
    """A video size that the model cannot make."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Geometry:
    """Height and width in pixels, and the number of frames."""

    height: int
    width: int
    frames: int

    def latent_size(self, config: MochiConfig) -> tuple[int, int, int]:
        """Return latent frames, rows and columns. Raise GeometryError if the video is not of whole latent patches."""
        time, space = math.prod(config.vae.time_factors), math.prod(config.vae.space_factors)
        multiple = space * config.dit.patch
        for name, size in (("height", self.height), ("width", self.width)):
            if size <= 0 or size % multiple:
                raise GeometryError(f"geometry {self}: {name} {size} is not a positive multiple of {multiple}")
        if self.frames <= 0 or (self.frames - 1) % time:
            raise GeometryError(f"geometry {self}: {self.frames} frames is not {time}k+1")
        return (self.frames - 1) // time + 1, self.height // space, self.width // space

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.frames}"


def parse_geometry(text: str) -> Geometry:
    """Return the Geometry that `HxWxF` says. Raise GeometryError for anything else."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise GeometryError(f"geometry {text!r} is not HxWxF with three numbers; write for example 480x848x163")
    return Geometry(*map(int, match.groups()))
