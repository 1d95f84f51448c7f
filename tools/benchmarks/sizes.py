"""The sizes that `mochi-bench` measures: a model with seeded weights, and the video that each benchmark makes."""

from dataclasses import dataclass

from mochi_aot.artifacts.layout import DEFAULT_GEOMETRY


@dataclass(frozen=True)
class Size:
    """`preset` is one of compiler/checkpoint/presets.py. Videos are HxWxF; None where a benchmark has no such size."""

    preset: str
    step: str | None
    compile: str
    ttnn_start: str | None
    start: str = "32x48x7"  # the weights are what counts: the video is small, and its denoising step short


# A denoising step of the full model takes a host many minutes. The heads of the tiny model are narrower than ttnn's
# tiles.
SIZES = {
    "tiny": Size("tiny", step="32x48x7", compile="16x16x7", ttnn_start=None),
    "small": Size("bench", step="240x432x19", compile="64x128x13", ttnn_start="64x128x13"),
    "middle": Size("middle", step="112x192x13", compile="64x128x13", ttnn_start="64x128x13"),
    "full": Size("mochi-1", step=None, compile=DEFAULT_GEOMETRY, ttnn_start="64x128x13"),
}
STEP_SIZES = tuple(name for name, size in SIZES.items() if size.step is not None)
COMPILE_SIZES = START_SIZES = tuple(SIZES)
TTNN_START_SIZES = tuple(name for name, size in SIZES.items() if size.ttnn_start is not None)


@dataclass(frozen=True)
class GpuSize:
    """What `mochi-bench gpu` measures: a preset, the videos of step and decoder, and the bytes that are loaded."""

    preset: str
    step: str
    decode: str
    load_bytes: int


# diffusers drops five frames of a video at its end, where Genmo's code and ours drop some in each stage: so its first
# 55 frames are others. The video whose numbers are compared is longer, and small, so that any card has room for it.
DECODER_CHECK, LATER_FRAMES = "32x48x67", 55
GPU = {
    "tiny": GpuSize("tiny", "32x48x7", DECODER_CHECK, 3 << 20),
    "middle": GpuSize("middle", "240x432x49", "240x432x49", 1 << 30),
    "full": GpuSize("mochi-1", DEFAULT_GEOMETRY, DEFAULT_GEOMETRY, 4 << 30),
}
GPU_SIZES = tuple(GPU)
