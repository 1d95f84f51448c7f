"""A prompt to frames: runs a bundle's programs one after the other on a backend."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, Program
from mochi_aot.runtime.backend import Backend, Executable, KernelUse, Planner, Value
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.geometry import find_geometry, geometry_name, input_shape
from mochi_aot.runtime.ledger import READ, STEP, Ledger
from mochi_aot.runtime.programs import load_programs
from mochi_aot.runtime.residency import all_weights_fit, remade_that_stay
from mochi_aot.runtime.targets import PREFIX_MASK_TARGETS, close_backend, open_backend
from mochi_aot.runtime.tensor_files import Embedding, require_first
from mochi_aot.runtime.tokenizer import PromptTokenizer, empty_prompt, open_tokenizer
from mochi_aot.runtime.values import ValueCheck, check_array, kinds_of, not_finite
from mochi_aot.runtime.weight_reader import WeightReader

_KEPT_EMBEDDINGS = 32  # prompts; 4 MiB each at full size

StepCallback = Callable[[int, int], None]
Guidance = float | np.ndarray  # of all steps, or float32 [steps]


@dataclass(frozen=True)
class Conditioning:
    """Device values that steer the denoising of one video: per prompt, and a table per `capacity` steps."""

    geometry: Geometry
    steps: int
    capacity: int
    prompt: Mapping[str, Value]
    tables: list[Mapping[str, Value]]


@dataclass(frozen=True)
class Change:
    """What is to be another from the next step on: latents float32 of the same shape, or all that steers them.

    With `stop` there is no next step.
    """

    latents: np.ndarray | None = None
    conditioning: Conditioning | None = None
    stop: bool = False


# Called after each step with its index from 0 and a function that fetches the latents; may run other programs.
Steer = Callable[[int, Callable[[], np.ndarray]], Change]


def step_chunks(sigmas: np.ndarray, guidance_scale: Guidance, capacity: int) -> list[dict[str, np.ndarray]]:
    """Return the host inputs of prepare_steps, `capacity` steps at a time.

    sigmas: float32 [steps + 1]. Each chunk has sigma, next_sigma and guidance_scale, float32 [capacity]; the last one
    is filled up by repeating the last step, whose surplus rows are never selected.
    """
    steps = len(sigmas) - 1
    scales = np.broadcast_to(np.asarray(guidance_scale, np.float32), steps)
    chunks = []
    for start in range(0, steps, capacity):
        rows = np.minimum(np.arange(start, start + capacity), steps - 1)
        chunks.append({"sigma": sigmas[rows], "next_sigma": sigmas[rows + 1], "guidance_scale": scales[rows]})
    return chunks


def read_ahead(reader: Planner, bundle: Bundle, roles: Iterable[str], geometry: Geometry) -> None:
    """Plan the weights of these programs in this order."""
    for role in roles:
        reader.plan(weight.name for weight in bundle.program(role, geometry).weights)


@dataclass(frozen=True)
class Usage:
    """Bytes of weights that were read, those of the pages that came `from_disk` for them, and what became of kernels,
    None without any."""

    bytes_read: int
    from_disk: int
    kernels: KernelUse | None


class Pipeline:
    """The phases of generation. Arrays come in and go out as numpy; between programs values stay on the devices.

    Weights stay on the devices where all of them fit. Elsewhere only those of the running phase are loaded: a phase
    frees those of others first, so the peak of memory is that of the largest phase, not their sum. Weights of later
    phases are read ahead, as far as `read_ahead` names them.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        reader: WeightReader | None = None,
        ledger: Ledger | None = None,
        check_values: bool = False,
    ) -> None:
        """`reader` may be reading already; `ledger` is told what takes how long.

        With `check_values` an error about numbers that are not finite names the first instruction, and not just the
        program; looking at every result takes long.
        """
        self.bundle = bundle
        self._check = ValueCheck(backend, check_values)
        self.ledger = ledger or Ledger()
        self._backend = backend
        self._reader = reader or WeightReader(bundle, self.ledger)
        self._wired: set[str] = set()
        self._executables: dict[int, Executable] = {}
        self._loaded: set[str] = set()
        self._phase: int | None = None  # the program that ran last
        self._fitting: dict[str, bool] = {}  # by geometry
        self._remade = remade_that_stay(bundle) if backend.on_host else frozenset()
        self._embeddings: dict[str, Embedding] = {}

    @classmethod
    def open(cls, path: Path, device: str | None = None) -> Self:
        """Open the bundle at `path` and its target's backend. Load no weights.

        Raise BundleError for a bundle that is not whole, BackendError if the target cannot run here.
        """
        bundle = Bundle.open(path)
        return cls(bundle, open_backend(bundle, device))

    def close(self) -> None:
        """Let go of weights, values and devices; the pipeline is of no use any more."""
        self._reader.close()
        self._executables.clear()
        self._embeddings.clear()
        close_backend(self._backend)

    def use(self, bundle: Bundle) -> int:
        """Go on with another bundle of the same programs, of which only the weights that differ are loaded again.

        Return how many these are. What was prepared by the last bundle's programs must not be used any more.
        """
        changed = {name for name in bundle.weights if bundle.content(name) != self.bundle.content(name)}
        loaded = changed & self._loaded
        if loaded:
            self._backend.free_weights(sorted(loaded))
        self._reader.use(bundle, changed)
        self._loaded -= loaded
        self._phase = None
        self.bundle = bundle
        self._remade = remade_that_stay(bundle) if self._backend.on_host else frozenset()
        texts = (self._program("encode_text", g) for g in bundle.manifest.geometries if "encode_text" in g.programs)
        if any(weight.name in changed for program in texts for weight in program.weights):
            self._embeddings.clear()
        return len(changed)

    def usage(self) -> Usage:
        """Return what was read and built since the last call; the ledger forgets its spans."""
        spans = [span for span in self.ledger.taken() if span.name == READ]
        nbytes, from_disk = sum(span.nbytes for span in spans), sum(span.from_disk for span in spans)
        return Usage(nbytes, from_disk, self._backend.kernel_use())

    def geometry(self, name: str | None = None) -> Geometry:
        """Return the geometry HxWxF of the bundle, its first for None. Raise OptionError listing all."""
        return find_geometry(self.bundle, name)

    def read_ahead(self, roles: Iterable[str], geometry: Geometry) -> None:
        """Have the weights of these programs read in this order, before and while others run."""
        read_ahead(self._reader, self.bundle, roles, geometry)

    def latent_shape(self, geometry: Geometry) -> tuple[int, ...]:
        """Return [1, 12, T, H/8, W/8]."""
        return input_shape(self._program("denoise", geometry), "latents")

    def remembers(self, prompt: str) -> bool:
        """Tell whether the prompt was encoded lately."""
        return prompt in self._embeddings

    def encode_prompt(self, prompt: str) -> Embedding:
        """Run the text encoder, or remember what it made of the same prompt lately."""
        if prompt not in self._embeddings:
            if len(self._embeddings) == _KEPT_EMBEDDINGS:
                del self._embeddings[next(iter(self._embeddings))]
            self._embeddings[prompt] = self._encode_prompt(prompt)
        return self._embeddings[prompt]

    def condition(
        self,
        positive: Embedding,
        negative: Embedding,
        sigmas: np.ndarray,
        guidance_scale: Guidance,
        geometry: Geometry,
    ) -> Conditioning:
        """Prepare all that does not depend on the latents. sigmas: float32 [steps + 1], ending in 0.

        Raise InputFileError for a mask that the target cannot apply.
        """
        inputs = {
            "prompt_embeds": positive.embeds,
            "prompt_attention_mask": positive.mask,
            "negative_prompt_embeds": negative.embeds,
            "negative_prompt_attention_mask": negative.mask,
        }
        if self.bundle.manifest.target in PREFIX_MASK_TARGETS:
            for name in ("prompt_attention_mask", "negative_prompt_attention_mask"):
                require_first(inputs[name], name)
        capacity = self.bundle.manifest.step_capacity
        prompt = self._run("prepare_prompt", geometry, inputs)
        started = Conditioning(geometry, len(sigmas) - 1, capacity, prompt, [])
        return self.with_guidance(started, sigmas, guidance_scale, 0)

    def with_guidance(
        self, conditioning: Conditioning, sigmas: np.ndarray, guidance_scale: Guidance, first: int
    ) -> Conditioning:
        """Return the conditioning with the tables of step `first` and of all later ones prepared again.

        sigmas: float32 [steps + 1], as before; `guidance_scale` must be as before for the steps before `first`.
        """
        kept = first // conditioning.capacity
        geometry, prompt = conditioning.geometry, conditioning.prompt
        chunks = step_chunks(sigmas, guidance_scale, conditioning.capacity)[kept:]
        tables = [self._run("prepare_steps", geometry, chunk, prompt) for chunk in chunks]
        return replace(conditioning, tables=[*conditioning.tables[:kept], *tables])

    def denoise(
        self,
        latents: np.ndarray,
        conditioning: Conditioning,
        after_step: StepCallback | None = None,
        steer: Steer | None = None,
    ) -> np.ndarray:
        """Take latents float32 [1, 12, T, H/8, W/8] from noise to a clean sample of the same shape.

        Raise BundleError for files of weights that were changed meanwhile, as `decode` and `encode` do, and
        NumbersError for latents that are not finite: after the step that made them so where values are in the
        host's memory, elsewhere at the end.
        `after_step(done, steps)` is called between steps and may raise, for instance Interrupted, to stop; `steer`
        after it, and says what is to be another from then on.
        """
        geometry = conditioning.geometry
        values: Mapping[str, Value] = self._upload("denoise", geometry, {"latents": latents})
        for step in range(conditioning.steps):
            chunk, row = divmod(step, conditioning.capacity)
            known = {**conditioning.prompt, **conditioning.tables[chunk], **values}
            with self.ledger.span(STEP):
                when = f"step {step + 1} of {conditioning.steps}"
                values = self._run("denoise", geometry, {"step": np.array([row], np.int32)}, known, when)
            if after_step is not None:
                after_step(step + 1, conditioning.steps)
            if steer is not None:
                change = steer(step, partial(self._fetch, "denoise", geometry, values, "latents"))
                conditioning = change.conditioning or conditioning
                if change.latents is not None:
                    values = self._upload("denoise", geometry, {"latents": change.latents})
                if change.stop:
                    break
        made = self._fetch("denoise", geometry, values, "latents")
        if kinds_of(made):
            self._check_conditioning(conditioning)
            check_array("denoise", made)
        self._reader.check_unchanged()
        return made

    def decode(self, latents: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Turn latents, as the sampler sees them, into frames uint8 [F, H, W, 3].

        Raise NumbersError where a number that became a byte was not finite: the program counts these.
        """
        values = self._run("decode", geometry, {"latents": latents})
        count = self._fetch("decode", geometry, values, "nonfinite").sum()
        if count != 0:
            raise not_finite("decode", f"{count:.0f} in the video")
        self._reader.check_unchanged()
        frames = self._fetch("decode", geometry, values, "frames")  # chips may hold rows of pixels, [F, H, W * 3]
        return frames.reshape(geometry.frames, geometry.height, geometry.width, 3)

    def encode(self, frames: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Turn frames uint8 [F, H, W, 3] of the geometry into latents float32 [1, 12, T, H/8, W/8], as the sampler sees
        them."""
        shape = input_shape(self._program("encode", geometry), "frames")  # chips hold rows of pixels, [F, H, W * 3]
        values = self._run("encode", geometry, {"frames": frames.reshape(shape)})
        self._reader.check_unchanged()
        latents = self._fetch("encode", geometry, values, "latents")
        check_array("encode", latents)
        return latents

    @cached_property
    def tokenizer(self) -> PromptTokenizer:
        """The bundle's tokenizer. Raise BundleError if it has none, or it cannot be read."""
        return open_tokenizer(self.bundle)

    def _encode_prompt(self, prompt: str) -> Embedding:
        geometry = self.geometry()  # the text encoder is the same in all
        length = self.bundle.manifest.text_length
        ids, mask = self.tokenizer.encode(prompt) if prompt else empty_prompt(length)
        values = self._run("encode_text", geometry, {"input_ids": ids, "attention_mask": mask})
        embeds = self._fetch("encode_text", geometry, values, "prompt_embeds")
        self._reader.check_unchanged()
        check_array("encode_text", embeds)
        return Embedding(embeds, mask)

    def _check_conditioning(self, conditioning: Conditioning) -> None:
        """Raise NumbersError for what was prepared before denoising and is not finite: the fault is there, then."""
        self._check.check_outputs(self._program("prepare_prompt", conditioning.geometry), conditioning.prompt)
        for table in conditioning.tables:
            self._check.check_outputs(self._program("prepare_steps", conditioning.geometry), table)

    def _run(
        self,
        role: str,
        geometry: Geometry,
        arrays: Mapping[str, np.ndarray],
        values: Mapping[str, Value] | None = None,
        when: str = "",
    ) -> Mapping[str, Value]:
        """Run a program on host arrays and on values of earlier programs; `values` may hold more than it wants.

        `when` says in messages which run of the program it is.
        """
        known = {**(values or {}), **self._upload(role, geometry, arrays)}
        executable = self._enter(role, geometry)
        program = self._program(role, geometry)
        self.ledger.mark("first program")
        return self._check.run(executable, program, {item.name: known[item.name] for item in program.inputs}, when)

    def _enter(self, role: str, geometry: Geometry) -> Executable:
        """Make the weights of this phase resident, free those that have to make room, and return its executable."""
        file = geometry.programs[role]
        if file != self._phase:
            self._phase = None  # until all is in place
            self._change_weights(self._program(role, geometry), geometry)
            if file not in self._executables:
                self._executables[file] = self._backend.load_program(self._program(role, geometry))
            self._phase = file
        return self._executables[file]

    def _change_weights(self, program: Program, geometry: Geometry) -> None:
        wanted = [weight.name for weight in program.weights]
        surplus = self._loaded.difference(wanted, self._staying(geometry))
        self._backend.free_weights(sorted(surplus))  # and what else the phase before holds
        self._reader.release(surplus)
        self._loaded -= surplus
        missing = [name for name in wanted if name not in self._loaded]
        if missing:
            self._reader.plan(missing, at_once=True)
            self._backend.load_weights(self.bundle, missing, self._wait)
            self._loaded.update(missing)

    def _staying(self, geometry: Geometry) -> AbstractSet[str]:
        """Return the weights for which there is room throughout."""
        name = geometry_name(geometry)
        if name not in self._fitting:
            self._fitting[name] = all_weights_fit(self.bundle, geometry, self._backend.memory_bytes())
        if not self._fitting[name]:
            return self._remade
        return {weight.name for role in geometry.programs for weight in self._program(role, geometry).weights}

    def _wait(self, name: str) -> None:
        self._reader.wait(name)
        self.ledger.mark("first weight")

    def _upload(self, role: str, geometry: Geometry, arrays: Mapping[str, np.ndarray]) -> dict[str, Value]:
        values = {}
        for item in self._program(role, geometry).inputs:
            if item.name not in arrays:
                continue
            array = arrays[item.name]
            if array.shape != tuple(item.spec.shape):
                raise OptionError(f"{item.name} has shape {list(array.shape)}, {role} wants {item.spec.shape}")
            values[item.name] = self._backend.upload(array, item.spec)
        return values

    def _fetch(self, role: str, geometry: Geometry, values: Mapping[str, Value], name: str) -> np.ndarray:
        for item in self._program(role, geometry).outputs:
            if item.name == name:
                return self._backend.fetch(values[name], item.spec)
        raise AssertionError(f"check_wiring saw to it that {role} gives {name}")

    def _program(self, role: str, geometry: Geometry) -> Program:
        """Return a program of a geometry whose programs are known to fit together."""
        name = geometry_name(geometry)
        if name not in self._wired:
            load_programs(self.bundle, geometry)
            self._wired.add(name)
        return self.bundle.program(role, geometry)
