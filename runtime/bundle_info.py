"""The Python API before loading: `describe` tells what a bundle can be asked for, in milliseconds, without a device."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.geometry import geometry_name
from mochi_aot.runtime.requests import Call, Schedule


@dataclass(frozen=True)
class BundleInfo:
    """A bundle that is open and not loaded. Any thread may ask, at any time."""

    bundle: Bundle

    @property
    def geometries(self) -> tuple[str, ...]:
        """Return the sizes of videos, HxWxF; the first is the one that is made unless another one is asked for."""
        return tuple(map(geometry_name, self.bundle.manifest.geometries))

    def resolve(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
    ) -> dict[str, object]:
        """Return the arguments that the record of such a video will have, all filled in.

        Raise OptionError where the call of a loaded bundle would.
        """
        schedule = Schedule(num_inference_steps, guidance_scale)
        call = Call(prompt, negative_prompt, height, width, num_frames, schedule, seed=seed)
        return call.arguments(self.bundle)


def describe(path: str | PathLike[str]) -> BundleInfo:
    """Open a bundle without its weights. Raise BundleError for what is none."""
    return BundleInfo(Bundle.open(Path(path)))
