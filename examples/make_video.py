"""Make one video of a prompt, with a record of how beside it.

    python examples/make_video.py BUNDLE OUTPUT.mp4 [PROMPT]

The bundle is a folder that mochi-compile wrote; `make demo` leaves one in demo/mochi.bundle, of a small model that
draws moving shapes. One for ttnn runs on chips; set MOCHI_DEVICE=mock for a mesh without hardware, whose videos are
black.
"""

import os
import sys

import mochi_aot


def main(bundle: str, output: str, prompt: str = "a red circle moves left across a dark background") -> None:
    """Make the video and save it."""
    with mochi_aot.load(bundle, device=os.environ.get("MOCHI_DEVICE")) as pipe:
        print("the bundle makes", ", ".join(pipe.geometries))
        video = pipe(prompt, num_inference_steps=24, guidance_scale=3.0, seed=7)
        frames, height, width, _ = video.frames.shape  # uint8 [F, H, W, 3]
        print(f"{frames} frames of {width}x{height}, {video.record['seconds']['total']:.1f} s")
        video.save(output, fps=30)


if __name__ == "__main__":
    main(*sys.argv[1:])
