"""What a call of a loaded bundle gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mochi_aot.runtime.defaults import DEFAULT_FPS
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.finished import finishing, held_outputs
from mochi_aot.runtime.job import Job, arguments, check_sampling, check_video_name, outputs, record_path
from mochi_aot.runtime.paths import check_writable
from mochi_aot.runtime.video import write_video

OUTPUT_TYPES = ("np", "pil", "latent")


@dataclass(frozen=True, eq=False)
class Video:
    """One video, or with output_type="latent" what one is decoded from.

    `frames`: uint8 [F, H, W, 3] (RGB); with "pil" a list of F images of PIL's; with "latent" None.
    `latents`: float32 [1, 12, T, H/8, W/8], as the sampler left them; `decode` takes them.
    `record`: what made the video, as JSON has it; docs/api.md says what is in it.
    """

    frames: Any
    latents: np.ndarray
    record: Mapping[str, Any]
    _job: Job
    _pixels: np.ndarray | None

    def save(self, path: str | Path, fps: float = DEFAULT_FPS, force: bool = False) -> None:
        """Write the video to `path`, FILE.mp4, and its record beside it, FILE.json, each whole or not at all.

        Raise OptionError for another suffix, an fps out of 1 to 1000, or a video that was not decoded; OutputError for
        files that cannot be written, or exist and `force` is not set; VideoError if ffmpeg fails.
        """
        job = replace(self._job, output=str(path), fps=float(fps))
        check_video_name(str(path))
        check_sampling(job)
        if self._pixels is None:
            raise OptionError('output_type="latent" decodes nothing that could be saved; use decode, or another type')
        for file in outputs(job):
            check_writable(file, force)
        with held_outputs(job, force), finishing(Path(path), record_path(job), force) as made:
            write_video(made.video, self._pixels, job.fps)
            made.record = {**self.record, "arguments": arguments(job)}


def check_output_type(output_type: str) -> None:
    """Raise OptionError for an output type that does not exist, or "pil" where Pillow is not installed."""
    if output_type not in OUTPUT_TYPES:
        raise OptionError(f"output_type is {output_type!r}, expected {', '.join(OUTPUT_TYPES)}")
    if output_type == "pil":
        _pillow()


def as_images(frames: np.ndarray) -> list[Any]:
    """Return frames uint8 [F, H, W, 3] as a list of PIL's images."""
    image = _pillow()
    return [image.fromarray(frame) for frame in frames]


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        problem = 'output_type="pil" needs Pillow, which is not installed: pip install pillow, or use output_type="np"'
        raise OptionError(problem) from None
    return Image
