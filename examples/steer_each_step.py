"""Steer a video while it is made: guide less with each step, save a preview, and stop when the time is up.

    python examples/steer_each_step.py BUNDLE OUTPUT.mp4 [SECONDS]

A video that is stopped early has noise left in it. Where guidance is known before, give a list instead, as in
guidance_scale=[6.0, 5.5, ...]: a callback that sets it has the later steps prepared again.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import mochi_aot

STEPS = 8


class Steer:
    """A callback in diffusers' shape: called after each step, with the latents."""

    def __init__(self, preview: Path, seconds: float) -> None:
        self.preview, self.end = preview, time.monotonic() + seconds

    def __call__(
        self, pipe: mochi_aot.VideoPipeline, step: int, timestep: float, given: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the latents to go on with, float32 [1, 12, T, H/8, W/8]: here those that were made."""
        print(f"step {step + 1}, time {timestep:.0f} of 1000, guidance {pipe.guidance_scale:g}")
        pipe.guidance_scale = 6.0 - 4.0 * (step + 1) / STEPS  # of the steps that follow
        if step == STEPS // 2:
            frames = pipe.decode(given["latents"])  # noisy still, but it shows where this goes
            np.save(self.preview, frames[len(frames) // 2])
        if time.monotonic() > self.end:
            pipe.interrupt = True  # what is there becomes the video
        return given


def main(bundle: str, output: str, seconds: str = "600") -> None:
    """Make the video and save it; an array of one frame of the preview goes beside it."""
    steer = Steer(Path(output).with_suffix(".preview.npy"), float(seconds))
    with mochi_aot.load(bundle) as pipe:
        video = pipe(
            "a cyan ring grows over a gray background", num_inference_steps=STEPS, seed=7, callback_on_step_end=steer
        )
    video.save(output)
    print(f"{video.record['callback']['steps_done']} of {STEPS} steps done")


if __name__ == "__main__":
    main(*sys.argv[1:])
