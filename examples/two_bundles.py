"""Hold two bundles in one process, and measure how far apart the videos are that they make of the same noise.

    python examples/two_bundles.py FIRST SECOND

So one can compare bundles of one checkpoint for other meshes, dtypes or targets. Of bundles for ttnn a process can
hold one at a time.
"""

import sys

import numpy as np

import mochi_aot

PROMPT, NEGATIVE = "a red circle moves left across a dark background", "a white square"


def main(first_bundle: str, second_bundle: str) -> None:
    """Print the largest difference of latents, relative to the largest latent, and of frames."""
    with mochi_aot.load(first_bundle) as first, mochi_aot.load(second_bundle) as second:
        height, width, frames = map(int, first.geometries[0].split("x"))
        size = {"height": height, "width": width, "num_frames": frames}
        # The prompts are encoded once, by the first bundle; noise of one seed is the same for both.
        prompts = first.encode_prompt(PROMPT, NEGATIVE)
        noise = first.prepare_latents(seed=7, **size)
        latents = [pipe.denoise(noise, *prompts, num_inference_steps=8) for pipe in (first, second)]
        videos = [pipe.decode(one) for pipe, one in zip((first, second), latents, strict=True)]
    difference = np.abs(latents[0] - latents[1]).max() / np.abs(latents[0]).max()
    levels = np.abs(videos[0].astype(int) - videos[1].astype(int)).max()
    print(f"latents differ by {difference:.1e} of the largest, frames by {levels} of 255 levels")


if __name__ == "__main__":
    main(*sys.argv[1:])
