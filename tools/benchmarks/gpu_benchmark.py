"""`mochi-bench gpu`: the real shapes on one GPU, beside diffusers and beside what the card and the host can do."""

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry, parse_geometry
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.torch.backend import find_device
from mochi_aot.runtime.torch.device_errors import device_errors, reason_of
from mochi_aot.tools.benchmarks.gpu import theirs
from mochi_aot.tools.benchmarks.gpu.attention import attention_runs
from mochi_aot.tools.benchmarks.gpu.cards import card_named
from mochi_aot.tools.benchmarks.gpu.loading import Loading, measure_loading
from mochi_aot.tools.benchmarks.gpu.ours import Ours, OurStep, compiled
from mochi_aot.tools.benchmarks.gpu.seeds import DeviceSeeds
from mochi_aot.tools.benchmarks.guided_steps import PROMPT_TOKENS, DiffusersStep, Inputs, inputs_of
from mochi_aot.tools.benchmarks.report import spread
from mochi_aot.tools.benchmarks.sizes import DECODER_CHECK, GPU, LATER_FRAMES
from mochi_aot.tools.benchmarks.step_benchmark import TOLERANCE, ResultsDifferError, check_difference, check_equal
from mochi_aot.tools.benchmarks.timing import seconds_of

Runs = dict[str, Callable[[], Any]]
BUNDLE, DIFFUSERS, COMPILED, TILED = "bundle", "diffusers", "diffusers, compiled", "diffusers, tiled"
FLOAT8 = "bundle, float8"  # beside bfloat16 alone
# Of a step in float8, the largest difference over the largest value. A product is off by 0.033 of its own deviation
# (tests/test_float8.py), what products follow each other by more, and guidance weighs the two rows with 4.5 and -3.5. A
# scale or a layout that is taken for another makes it 1 and more.
FLOAT8_TOLERANCE = 0.5
# Of 255 levels, the mean difference of frames. Rounding to whole levels makes one of a few in a thousand numbers that
# lie at its border; values of order 1 that are rounded to bfloat16 in each of some fifty ops are off by about
# 50^0.5 * 2^-9 of that, 2 levels.
LEVELS = {"float32": 0.05, "bfloat16": 4.0}
_ENOUGH_SECONDS = 100.0  # of repetitions of one comparison: the whole is to take no more than 8 minutes


@dataclass(frozen=True)
class Asked:
    """What is measured, and on what."""

    size: str
    dtype: str
    device: str
    with_compiled: bool
    repetitions: int

    @property
    def config(self) -> MochiConfig:
        """The model's sizes."""
        return PRESETS[GPU[self.size].preset]

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch has it."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype


@dataclass(frozen=True)
class GpuResult:
    """What was measured, on the device that torch calls `device`; the parts as `--json` writes them."""

    asked: Asked
    device: str
    step: dict[str, Any]
    attention: dict[str, Any]
    decode: dict[str, Any]
    loading: Loading


def measure_gpu(folder: Path, asked: Asked, report: Callable[[str], None]) -> GpuResult:
    """Measure step, decoder and loading, each once the numbers were compared; `report` is told each phase.

    Raise BackendError without the device, before anything else; ResultsDifferError; PackageMissingError;
    DeviceMemoryError where the device has no room for both transformers.
    """
    device, size = find_device(asked.device), GPU[asked.size]
    with device_errors("the benchmark"):
        seeds = DeviceSeeds(parameter_shapes(asked.config), asked.torch_dtype, asked.device)
        step = _measure_step(asked, parse_geometry(size.step), seeds, report)
        attention = _measure_attention(asked, parse_geometry(size.step), device)
        decode = _measure_decode(asked, parse_geometry(size.decode), seeds, report)
        report("loading a file")
        loading = measure_loading(folder, size.load_bytes, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return GpuResult(asked, name, step, attention, decode, loading)


def gpu_numbers(result: GpuResult) -> dict[str, Any]:
    """Return what `--json` writes. Times are in seconds, rates in bytes a second, memory in bytes."""
    asked, card = result.asked, card_named(result.device)
    size = GPU[asked.size]
    return {
        "size": asked.size,
        "preset": size.preset,
        "dtype": asked.dtype,
        "device": result.device,
        "libraries": f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
        "peak_flops": None if card is None else card.flops,
        "peak_source": None if card is None else card.source,
        "step": {"geometry": size.step, **result.step},
        "attention": result.attention,
        "decode": {"geometry": size.decode, **result.decode},
        "loading": asdict(result.loading),
    }


def _measure_step(
    asked: Asked, geometry: Geometry, seeds: DeviceSeeds, report: Callable[[str], None]
) -> dict[str, Any]:
    report("compiling the denoising step")
    config = asked.config
    ours = Ours(compiled("denoise", config, geometry, asked.dtype, seeds), seeds, asked.device)
    program = ours.programs["denoise"].program
    (shape,) = (item.spec.shape for item in program.inputs if item.name == "latents")
    inputs = inputs_of(shape, config.text_length, config.dit.caption_width)
    report("making weights")
    our_step, before = OurStep(ours, inputs), _allocated()
    model = theirs.transformer(config, seeds, asked.torch_dtype)
    their_bytes = _allocated() - before
    report("comparing the results")
    steps: Runs = {BUNDLE: our_step, DIFFUSERS: DiffusersStep(model, inputs, asked.torch_dtype, asked.device)}
    expected = steps[DIFFUSERS]()
    # On a GPU the second run of a program is recorded, and later ones repeat that.
    differences = [check_equal(our_step(), expected, inputs.latents, asked.dtype) for _ in range(3)]
    narrow = _in_float8(asked, geometry, seeds, inputs, expected, steps, report)
    failed: dict[str, str] = {}
    if asked.with_compiled:
        report("compiling diffusers' transformer")
        twin = DiffusersStep(theirs.compiled_twin(model), inputs, asked.torch_dtype, asked.device)
        steps, failed = running({**steps, COMPILED: twin}, [COMPILED])
    report("timing the step")
    weight_bytes = {BUNDLE: ours.weight_bytes("denoise"), DIFFUSERS: their_bytes if before else None}
    numbers = {
        "difference": max(differences),
        "tolerance": TOLERANCE[asked.dtype],
        "flops": program.stats.flops,
        "seconds": {name: spread(all) for name, all in in_turns(steps, asked.repetitions).items()},
        "memory": {name: _peak(step) for name, step in steps.items()},
        "weight_bytes": weight_bytes,
        "failed": failed,
    }
    if narrow is not None:
        numbers |= {"float8_difference": narrow.difference, "float8_tolerance": FLOAT8_TOLERANCE}
        weight_bytes[FLOAT8] = narrow.ours.weight_bytes("denoise")
        narrow.ours.close()
    ours.close()
    return numbers


@dataclass(frozen=True)
class _Narrow:
    """The programs with matrices in float8, and how far their step is from diffusers'."""

    ours: Ours
    difference: float


def _in_float8(
    asked: Asked,
    geometry: Geometry,
    seeds: DeviceSeeds,
    inputs: Inputs,
    expected: np.ndarray,
    steps: Runs,
    report: Callable[[str], None],
) -> _Narrow | None:
    """Add the step with matrices in float8 to `steps`; None where values are not bfloat16, which it goes with."""
    if asked.dtype != "bfloat16":
        return None
    report("making weights in float8")
    made = compiled("denoise", asked.config, geometry, asked.dtype, seeds, "float8")
    ours = Ours(made, seeds, asked.device)
    steps[FLOAT8] = OurStep(ours, inputs)
    report("comparing the results")
    given = (inputs.latents, FLOAT8_TOLERANCE, "diffusers'")
    return _Narrow(ours, max(check_difference(steps[FLOAT8](), expected, *given) for _ in range(3)))


def _measure_attention(asked: Asked, geometry: Geometry, device: torch.device) -> dict[str, Any]:
    """Time a layer's attention for one row of guidance by each kernel that takes it."""
    dit = asked.config.dit
    frames, height, width = geometry.latent_size(asked.config)
    tokens = frames * (height // dit.patch) * (width // dit.patch)
    runs = attention_runs(tokens, dit.heads, dit.head_dim, asked.torch_dtype, device)
    fitting, failed = running(runs, list(runs))
    words = PROMPT_TOKENS + tokens
    return {
        "flops": 4 * words * words * dit.width,
        "seconds": {name: spread(all) for name, all in in_turns(fitting, asked.repetitions).items()},
        "memory": {},
        "failed": failed,
    }


def _measure_decode(
    asked: Asked, geometry: Geometry, seeds: DeviceSeeds, report: Callable[[str], None]
) -> dict[str, Any]:
    report("compiling the decoder")
    gc.collect()  # the transformers, and whatever of them knows itself
    _empty_cache()
    model = theirs.autoencoder(asked.config, seeds, asked.torch_dtype)
    decodes, ours = _decoders(asked, parse_geometry(DECODER_CHECK), seeds, model)
    report("comparing the results")
    off = _check_frames(decodes[BUNDLE](), decodes[DIFFUSERS](), asked.dtype)
    if str(geometry) != DECODER_CHECK:
        ours.close()
        decodes, ours = _decoders(asked, geometry, seeds, model)
        decodes[BUNDLE]()
    report("timing the decoder")
    fitting, failed = running(decodes, [DIFFUSERS, TILED])
    numbers = {
        "difference_levels": off,
        "tolerance_levels": LEVELS[asked.dtype],
        "flops": ours.programs["decode"].program.stats.flops,
        "seconds": {name: spread(all) for name, all in in_turns(fitting, asked.repetitions).items()},
        "memory": {name: _peak(run) for name, run in fitting.items()},
        "failed": failed,
    }
    ours.close()
    return numbers


def _decoders(asked: Asked, geometry: Geometry, seeds: DeviceSeeds, model: Any) -> tuple[Runs, Ours]:
    """Return what makes the frames uint8 [F,H,W,3] of the same latents, by name."""
    ours = Ours(compiled("decode", asked.config, geometry, asked.dtype, seeds), seeds, asked.device)
    executable = ours.enter("decode")
    (shape,) = (item.spec.shape for item in ours.programs["decode"].program.inputs)
    latents = seeded_latents(3, tuple(shape))
    values = ours.upload("decode", {"latents": latents})
    theirs_run = theirs.DiffusersDecode(model, latents, asked.config, asked.torch_dtype, asked.device)

    def ours_run() -> np.ndarray:
        return ours.fetch("decode", executable.run(values), "frames")

    def whole() -> np.ndarray:
        model.disable_tiling()
        return theirs_run()

    def tiled() -> np.ndarray:
        model.enable_tiling()
        return theirs_run()

    return {BUNDLE: ours_run, DIFFUSERS: whole, TILED: tiled}, ours


def _check_frames(ours: np.ndarray, theirs: np.ndarray, dtype: str) -> float:
    """Return the mean difference of the frames that both make alike, in levels. Raise ResultsDifferError."""
    difference = ours[LATER_FRAMES:].astype(np.float32) - theirs[LATER_FRAMES:]
    off = float(np.abs(difference).mean())
    if not off <= LEVELS[dtype]:
        raise ResultsDifferError(
            f"the bundle's frames differ from diffusers' by {off:.2g} levels in the mean, expected at most "
            f"{LEVELS[dtype]:.2g}: not timed"
        )
    return off


def in_turns(runs: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each, run one after the other as often as is asked, or as there is time for; once at
    least."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    begun = time.perf_counter()
    for repetition in range(repetitions):
        if repetition > 0 and time.perf_counter() - begun > _ENOUGH_SECONDS:
            break
        for name, run in runs.items():
            seconds[name].append(seconds_of(run))
    return seconds


def running(runs: Runs, doubtful: Iterable[str]) -> tuple[Runs, dict[str, str]]:
    """Run each of those that may fail once, to warm it up; return those that run, and why the others do not."""
    failed: dict[str, str] = {}
    for name in doubtful:
        try:
            runs[name]()
        except Exception as error:  # noqa: BLE001  whatever torch's libraries and compiler raise of what is not ours
            failed[name] = reason_of(error)
            _empty_cache()
    return {name: run for name, run in runs.items() if name not in failed}, failed


def _peak(run: Callable[[], object]) -> int | None:
    """Return the most bytes that a run takes of a GPU besides what is there; None on a host."""
    if not torch.cuda.is_initialized():
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def _allocated() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_initialized() else 0


def _empty_cache() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
