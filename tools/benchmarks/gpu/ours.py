"""The programs of a bundle without a bundle: compiled from a configuration, with weights made on the device."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mochi_aot.artifacts import schema
from mochi_aot.compiler.compile import chosen_plans, compile_program
from mochi_aot.compiler.ir.program import Param
from mochi_aot.compiler.lower.torch import TorchTarget, lower
from mochi_aot.compiler.lower.weights import fill, weight_name
from mochi_aot.compiler.partition.plans import FAMILIES
from mochi_aot.compiler.programs import build_module
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.traced_modules import TRACED_MODULES
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES
from mochi_aot.runtime.backend import Executable, Value
from mochi_aot.runtime.pipeline import step_chunks
from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.tools.benchmarks.gpu.seeds import DeviceSeeds, HostView
from mochi_aot.tools.benchmarks.guided_steps import GUIDANCE_SCALE, SIGMAS, Inputs

ALONE, ALONE_AT = (1, 1), (0, 0)  # a mesh of one device, and its place


@dataclass(frozen=True)
class Lowered:
    """A program as a bundle has it, and what its weights are made of."""

    program: schema.Program
    params: list[Param]


def compiled(
    module: str,
    config: MochiConfig,
    geometry: Geometry,
    dtype: str,
    seeds: DeviceSeeds,
    weights_dtype: str = "bfloat16",
) -> dict[str, Lowered]:
    """Return the programs by role that a part of the model ("denoise", "decode") becomes for one device.

    `weights_dtype` is float8 for the matrices of the transformer's blocks, or as mochi-compile has it.
    """
    (unit,) = (unit for unit in TRACED_MODULES if unit.name == module)
    built = build_module(unit, config, geometry, dtype, HostView(seeds))
    target, made = TorchTarget(weights_dtype), dict[str, Lowered]()
    for roles in FAMILIES:
        programs = {role: built[role] for role in roles if role in built}
        plans = chosen_plans([programs], ALONE, (), target).plans if programs else {}
        for role, plan in plans.items():
            if role in built:
                result = compile_program(built[role], ALONE, plan, target)
                made[role] = Lowered(lower(result.program, plan.name, result.cost), result.program.params)
    return made


class Ours:
    """Programs on a device, one's weights at a time."""

    def __init__(self, programs: Mapping[str, Lowered], seeds: DeviceSeeds, device: str) -> None:
        """Raise BackendError if there is no such device."""
        self.programs, self._seeds = programs, seeds
        self.backend = TorchBackend(*ALONE, device)
        self._executables = {name: self.backend.load_program(item.program) for name, item in programs.items()}

    def enter(self, role: str) -> Executable:
        """Make the weights of a program where they are not there, free those of all others, and return it."""
        params = {weight_name(param): param for param in self.programs[role].params}
        others = {weight_name(param) for item in self.programs.values() for param in item.params}
        self.backend.free_weights(others - params.keys())
        for name, param in params.items():
            type = param.value.type
            out = torch.empty(type.local_shape, dtype=TORCH_DTYPES[type.dtype], device=self.backend.device)
            fill(param.recipe, type, [ALONE_AT], [out], self._seeds)
            self.backend.hold_weight(name, [out])
        return self._executables[role]

    def close(self) -> None:
        """Free all weights."""
        self.backend.close()

    def upload(self, role: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Value]:
        """Return those of the arrays that are inputs of a program, on the device."""
        inputs = {item.name: item.spec for item in self.programs[role].program.inputs}
        return {name: self.backend.upload(array, inputs[name]) for name, array in arrays.items() if name in inputs}

    def fetch(self, role: str, values: Mapping[str, Value], name: str) -> np.ndarray:
        """Return an output of a program on the host."""
        (spec,) = (item.spec for item in self.programs[role].program.outputs if item.name == name)
        return self.backend.fetch(values[name], spec)

    def weight_bytes(self, role: str) -> int:
        """Return the bytes of a program's weights."""
        return sum(param.value.type.local_nbytes for param in self.programs[role].params)


class OurStep:
    """A guided step as the sampler makes it: the step's number is uploaded, the program runs, latents are fetched."""

    def __init__(self, ours: Ours, inputs: Inputs) -> None:
        """Prepare the prompt and the steps, and leave the denoising program's weights on the device."""
        self._ours = ours
        positive, negative = inputs.positive, inputs.negative
        arrays = {
            "prompt_embeds": positive.embeds,
            "prompt_attention_mask": positive.mask,
            "negative_prompt_embeds": negative.embeds,
            "negative_prompt_attention_mask": negative.mask,
        }
        prompt = ours.enter("prepare_prompt").run(ours.upload("prepare_prompt", arrays))
        table = _capacity(ours.programs["prepare_steps"].program)
        (chunk,) = step_chunks(SIGMAS, GUIDANCE_SCALE, table)
        tables = ours.enter("prepare_steps").run({**prompt, **ours.upload("prepare_steps", chunk)})
        self._executable = ours.enter("denoise")
        self._known = {**prompt, **tables, **ours.upload("denoise", {"latents": inputs.latents})}

    def __call__(self) -> np.ndarray:
        """Return the latents after the step."""
        step = self._ours.upload("denoise", {"step": np.zeros(1, np.int32)})
        return self._ours.fetch("denoise", self._executable.run({**self._known, **step}), "latents")


def _capacity(program: schema.Program) -> int:
    """Return how many steps a run of prepare_steps prepares."""
    (spec,) = (item.spec for item in program.inputs if item.name == "sigma")
    return spec.shape[0]
