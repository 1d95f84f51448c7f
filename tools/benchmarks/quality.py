"""What compiling costs in quality: videos of bundles against those of a bundle in float32 for one device."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mochi_aot
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.errors import InputFileError
from mochi_aot.tools.benchmarks.similarity import mean_ssim, squared_error, to_decibels
from mochi_aot.tools.training.evaluate import MEASURED, held_out_prompts
from mochi_aot.tools.training.grammar import Scene
from mochi_aot.tools.training.semantics import observe

BASELINE = "torch 1x1 float32"
FLOAT8 = "float8"  # of matrices, beside bfloat16


@dataclass(frozen=True)
class Asked:
    """One prompt: its words, the seed of its noise, and what it says where that can be measured."""

    words: str
    seed: int
    scene: Scene | None = None


@dataclass(frozen=True)
class Sampling:
    """How every video is made."""

    geometry: Geometry
    steps: int
    guidance_scale: float


@dataclass(frozen=True)
class PathQuality:
    """Videos of one path. In dB on a scale of 255; None where the frames are equal, and for the baseline itself.

    `psnr` is of all frames of all videos together, `worst` of the one video that differs most. `right` has the shares
    of videos that show their prompt's colour, shape, motion and all three; None where prompts say nothing measurable.
    """

    name: str
    psnr: float | None
    worst: float | None
    ssim: float
    right: dict[str, float] | None


class Videos:
    """The baseline's videos, on disk, since those of a large model would not fit into memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, number: int, frames: np.ndarray) -> None:
        """Write video `number`, uint8 [F, H, W, 3]."""
        np.save(self.folder / f"{number}.npy", frames)

    def __getitem__(self, number: int) -> np.ndarray:
        kept: np.ndarray = np.load(self.folder / f"{number}.npy", mmap_mode="r")
        return kept


def measure_path(
    name: str, asked: Sequence[Asked], videos: Iterable[np.ndarray], baseline: Callable[[int], np.ndarray]
) -> PathQuality:
    """Compare videos, uint8 [F, H, W, 3], one for each of `asked`, with `baseline`'s of the same numbers."""
    errors, similarities, agreed = [], [], []
    for number, (prompt, frames) in enumerate(zip(asked, videos, strict=True)):
        expected = baseline(number)
        errors.append(squared_error(frames, expected))
        similarities.append(mean_ssim(frames, expected))
        if prompt.scene is not None:
            agreed.append(observe(frames).agrees(prompt.scene))
    psnr, worst = to_decibels(float(np.mean(errors))), to_decibels(max(errors))
    return PathQuality(name, psnr, worst, float(np.mean(similarities)), _shares(agreed))


def _shares(agreed: list[dict[str, bool]]) -> dict[str, float] | None:
    if not agreed:
        return None
    shares = {key: float(np.mean([one[key] for one in agreed])) for key in MEASURED}
    return shares | {"all": float(np.mean([all(one.values()) for one in agreed]))}


def bundle_videos(bundle: Path, asked: Sequence[Asked], sampling: Sampling) -> Iterable[np.ndarray]:
    """Frames uint8 [F, H, W, 3] of each prompt, by the bundle's own target."""
    size = sampling.geometry
    with mochi_aot.load(bundle) as pipe:
        for prompt in asked:
            video = pipe(
                prompt.words,
                seed=prompt.seed,
                height=size.height,
                width=size.width,
                num_frames=size.frames,
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance_scale,
            )
            yield np.asarray(video.frames)


def measure_quality(
    folder: Path,
    checkpoint: Path,
    text_encoder: Path | None,
    asked: Sequence[Asked],
    sampling: Sampling,
    variants: Sequence[tuple[str, str]],
    bundles: Sequence[Path],
    progress: Callable[[str], None],
) -> list[PathQuality]:
    """Compile for the torch target, once for each (mesh, dtype) of `variants`, and compare all with the baseline.

    A dtype is FLOAT8 too.

    `bundles` are compared too: bundles of the same checkpoint, for any target that this machine has. All that is
    written goes to `folder`.
    """
    kept = Videos(folder)

    def compiled(mesh: str, dtype: str) -> Path:
        output = folder / f"{mesh}-{dtype}.bundle"
        mochi_aot.compile(
            checkpoint,
            mesh=mesh,
            output=output,
            text_encoder=text_encoder,
            target="torch",
            geometries=sampling.geometry,
            dtype="bfloat16" if dtype == FLOAT8 else dtype,
            weights_dtype=FLOAT8 if dtype == FLOAT8 else "bfloat16",
        )
        return output

    def keeping() -> Iterable[np.ndarray]:
        for number, frames in enumerate(bundle_videos(compiled("1x1", "float32"), asked, sampling)):
            kept.keep(number, frames)
            yield frames

    progress(BASELINE)
    paths = [measure_path(BASELINE, asked, keeping(), kept.__getitem__)]
    for mesh, dtype in variants:
        name = f"torch {mesh} {dtype}"
        progress(name)
        paths.append(measure_path(name, asked, bundle_videos(compiled(mesh, dtype), asked, sampling), kept.__getitem__))
    for bundle in bundles:
        progress(bundle.name)
        paths.append(measure_path(bundle.name, asked, bundle_videos(bundle, asked, sampling), kept.__getitem__))
    return paths


def quality_numbers(paths: Sequence[PathQuality], asked: Sequence[Asked], sampling: Sampling) -> dict[str, Any]:
    """All settings and results, for JSON."""
    settings = {"prompts": len(asked), "geometry": str(sampling.geometry), "steps": sampling.steps}
    settings |= {"guidance_scale": sampling.guidance_scale}
    return {**settings, "paths": [asdict(path) for path in paths]}


def asked_prompts(file: Path | None, count: int) -> list[Asked]:
    """Return a file's prompts, one per line, without empty ones, with seeds from 0 on; else `count` held-out ones.

    Raises InputFileError for a file without a prompt.
    """
    if file is None:
        return [Asked(prompt.words, prompt.seed, prompt.scene) for prompt in held_out_prompts(count)]
    lines = (line.strip() for line in file.read_text().splitlines())
    asked = [Asked(words, seed) for seed, words in enumerate(line for line in lines if line)]
    if not asked:
        raise InputFileError(f"{file} holds no prompt; write one on each line")
    return asked
