"""What options are called, and what holds where none is given: to be had without importing anything large."""

from mochi_aot.artifacts.layout import PUBLISHED_STEPS

DEFAULT_STEPS = PUBLISHED_STEPS
DEFAULT_GUIDANCE_SCALE = 6.0  # Genmo's default in code; the example in its README uses 4.5
DEFAULT_THRESHOLD_NOISE = 0.025
DEFAULT_FPS = 30.0
# Of video to video. Half of Mochi's steps remove a fortieth of the noise, so that 0.8, diffusers' default for other
# models, would begin at 99 % noise; this begins at 81 %.
DEFAULT_STRENGTH = 0.3

# Named choices of a job's options; what else is given counts before them.
PRESETS: dict[str, dict[str, float | int]] = {
    # Genmo's fast mode: few steps, in which guidance has to be weak.
    "fast": {"steps": 8, "threshold-noise": 0.1, "linear-steps": 6, "guidance-scale": 1.5},
}

CHIPS = "chips"
MOCK = "mock"  # a mesh without hardware, on which everything happens but the computing
SIMULATOR = "simulator"  # Tenstorrent's functional simulator: real kernels and numbers, without hardware
# What each target runs on; the first is the default.
DEVICES = {"torch": ("cpu", "cuda"), "ttnn": (CHIPS, MOCK, SIMULATOR)}

# Other names of a job's options that command lines and sweeps take.
ALIASES = {
    "num-steps": "steps",  # Genmo's command line
    "num-inference-steps": "steps",  # diffusers, and Genmo's pipelines
    "cfg-scale": "guidance-scale",  # Genmo's command line
    "cfg-schedule": "guidance-scale",  # Genmo's pipelines: a value for each step
    "sigma-schedule": "sigmas",  # Genmo's pipelines
}
# Parts of the geometry, as both call them.
SIZES = ("height", "width", "num-frames")


def dashed(name: str) -> str:
    """Return an option's name with dashes: Genmo's command line and both libraries write underscores."""
    return name.replace("_", "-")
