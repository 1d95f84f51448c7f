"""A small model lowered for ttnn, run program by program through the golden definitions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import numpy as np
import torch

from mochi_aot.artifacts.roles import ENCODE
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.checkpoint.presets import BENCH, TINY
from mochi_aot.compiler.compile import compile_program
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from mochi_aot.compiler.lower.fit import FIRST_STAGE, LATENT_VIDEO, PIXEL_VIDEO
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer, Weight
from mochi_aot.compiler.lower.ttnn.program import Lowered, lower
from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
from mochi_aot.compiler.lower.weights import Source, distinct_coordinates, local_tensor
from mochi_aot.compiler.partition.choose import Estimate, choose_plans
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import TTNN_FAMILIES
from mochi_aot.compiler.passes.strips import in_strips
from mochi_aot.compiler.programs import STEP_CAPACITY, build_programs
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import step_chunks
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import Embedding
from mochi_aot.runtime.ttnn.context import DTYPES, LAYOUTS
from mochi_aot.tools.golden.types import ChipMesh, Chips
from tests.ttnn_golden.forms import require_forms
from tests.ttnn_golden.runner import Observe, chip_mesh, place, run_golden, run_on_chips

# Head widths and hidden sizes in whole tiles, and heads that divide by 2 and 4.
CONFIG = replace(BENCH, dit=replace(BENCH.dit, layers=2), text=replace(BENCH.text, num_layers=2), vae=TINY.vae)
GEOMETRY = Geometry(48, 80, 13)
DIT_ROLES = ["encode_text", "prepare_prompt", "prepare_steps", "denoise"]
# What is done in strips of so many frames.
STRIPS: dict[str, Callable[[int], tuple[str, int, str | None]]] = {
    "decode": lambda frames: (LATENT_VIDEO, frames, None),
    ENCODE: lambda frames: (PIXEL_VIDEO, frames, FIRST_STAGE),
}
VIDEO = Geometry(64, 64, 13)  # latents of 8 x 8, which meshes up to 4x8 cut into whole pixels


def torch_estimate(mesh: tuple[int, int], program: Program, plan: Plan) -> Estimate:
    """Of a program without a mesh."""
    made = compile_program(program, mesh, plan)
    return TorchTarget().estimate(made.program, plan.name, made.cost)


@dataclass
class LoweredModel:
    """Programs by role, what lowered them, and whether their values are rounded and ttnn has its defects."""

    mesh: tuple[int, int]
    checkpoint: Checkpoint | TunedCheckpoint
    lowerers: dict[str, Lowerer]
    programs: dict[str, Lowered]
    rounded: bool = True
    defects: bool = True

    @classmethod
    def make(
        cls,
        checkpoint: Checkpoint,
        mesh: tuple[int, int],
        weights_dtype: str,
        roles: list[str],
        geometry: Geometry = GEOMETRY,
        links_dtype: str = "bfloat16",
        strip: int | None = None,
        plan: str = "sp1tp0",
    ) -> "LoweredModel":
        """With this plan of the transformer, and others as TorchTarget chooses; or the decoder in strips of so many
        latent frames, which only a plan that cuts no time has, or the encoder in strips of so many frames."""
        built = built_programs(checkpoint, geometry)
        families = {names: plans for names, plans in TTNN_FAMILIES.items() if set(names) & set(roles)}
        names = (plan, "h0w1") if strip else (plan,)
        plans = choose_plans([built], mesh, names, families, partial(torch_estimate, mesh)).plans
        lowerers, programs = {}, {}
        for role in roles:
            program = in_strips(built[role], *STRIPS[role](strip)) if role in STRIPS and strip else built[role]
            if role == "denoise":
                program = TtnnTarget().fitted(program, mesh, plans[role])
            compiled = compile_program(program, mesh, plans[role])
            lowerers[role] = Lowerer(compiled.program, mesh, weights_dtype, links_dtype)
            programs[role] = lower(lowerers[role], plans[role].name, compiled.cost)
        return cls(mesh, checkpoint, lowerers, programs)

    @cached_property
    def chips(self) -> ChipMesh:
        """What the programs run on."""
        return chip_mesh(self.mesh, self.rounded, self.defects)

    @cached_property
    def weights(self) -> dict[str, dict[str, Chips]]:
        """As chips hold them, by role and name."""
        return {role: self._weights(low) for role, low in self.programs.items()}

    def in_float32(self) -> "LoweredModel":
        """The same instructions on the same weights, where nothing is rounded to bfloat16 or bfloat8_b."""
        return replace(self, rounded=False)

    def run(self, role: str, inputs: Mapping[str, np.ndarray | Chips]) -> dict[str, torch.Tensor]:
        """Whole outputs by name."""
        return run_golden(self.programs[role].program, self.chips, inputs, self.weights[role], self._checked(role))

    def placed(self, role: str, inputs: Mapping[str, np.ndarray | Chips]) -> dict[str, Chips]:
        """Inputs of a program as the chips hold them; `inputs` may hold more."""
        sources = self.programs[role].program.inputs
        return {source.name: place(inputs[source.name], source.spec, self.chips) for source in sources}

    def on_chips(self, role: str, inputs: Mapping[str, np.ndarray | Chips]) -> dict[str, Chips]:
        """Outputs as the chips hold them; `inputs` may hold more than the program takes."""
        program = self.programs[role].program
        return run_on_chips(program, self.chips, self.placed(role, inputs), self.weights[role], self._checked(role))

    def conditioning(
        self, positive: Embedding, negative: Embedding, sigmas: np.ndarray, guidance_scale: float
    ) -> dict[str, np.ndarray | Chips]:
        """All that denoising needs besides latents and step, and what it was made from."""
        known: dict[str, np.ndarray | Chips] = {
            "prompt_embeds": positive.embeds,
            "prompt_attention_mask": positive.mask,
            "negative_prompt_embeds": negative.embeds,
            "negative_prompt_attention_mask": negative.mask,
        }
        known |= self.on_chips("prepare_prompt", known)
        (steps,) = step_chunks(sigmas, guidance_scale, STEP_CAPACITY)
        known |= steps
        return known | self.on_chips("prepare_steps", known)

    def denoised(self, noise: np.ndarray, known: Mapping[str, np.ndarray | Chips], steps: int) -> np.ndarray:
        """Latents after all steps, as chip 0 holds them."""
        values: dict[str, np.ndarray | Chips] = {**known, "latents": noise}
        for step in range(steps):
            values |= self.on_chips("denoise", values | {"step": np.array([step], np.int32)})
        latents = values["latents"]
        assert isinstance(latents, Chips)
        return np.asarray(latents.pieces[0].numpy())

    def _checked(self, role: str) -> Observe | None:
        """An observer that finds each result in the form that the lowering decided on; none without what lowered it."""
        if role not in self.lowerers:
            return None
        made = self.lowerers[role].made
        return lambda index, instruction, results: require_forms(made, instruction, results)

    def _weights(self, lowered: Lowered) -> dict[str, Chips]:
        return weights_on_chips(lowered.weights, self.checkpoint, self.chips)


def weights_on_chips(weights: list[Weight], source: Source, mesh: ChipMesh) -> dict[str, Chips]:
    """As chips hold them, by name."""
    held = {}
    for weight in weights:
        pieces = prepared_pieces(weight, source, mesh.shape)
        made = {id(piece): mesh.held(piece, DTYPES[weight.dtype]) for piece in pieces}
        held[weight.name] = Chips([made[id(piece)] for piece in pieces], DTYPES[weight.dtype], LAYOUTS[weight.layout])
    return held


def prepared_pieces(weight: Weight, source: Source, mesh: tuple[int, int]) -> list[torch.Tensor]:
    """What each chip holds of a weight, in the form its op wants; chips that hold the same share a tensor."""
    recipe, type = weight.param.recipe, weight.param.value.type
    distinct, devices = distinct_coordinates(recipe, type, mesh)
    made = [weight.preparation(local_tensor(recipe, type, place, source)) for place in distinct]
    return [made[index] for index in devices]


@cache
def built_programs(checkpoint: Checkpoint, geometry: Geometry) -> dict[str, Program]:
    """Before they have a mesh, by role."""
    return build_programs(checkpoint.config, geometry, "bfloat16", checkpoint)


@dataclass
class Models:
    """All programs on a mesh with bfloat8_b weights, as a bundle has them and in float32.

    Decoder and encoder are lowered for VIDEO, the others for GEOMETRY.
    """

    bundled: dict[str, LoweredModel]
    exact: dict[str, LoweredModel]

    @classmethod
    def make(cls, checkpoint: Checkpoint, mesh: tuple[int, int]) -> "Models":
        transformer = LoweredModel.make(checkpoint, mesh, "bfloat8_b", DIT_ROLES)
        decoder = LoweredModel.make(checkpoint, mesh, "bfloat8_b", ["decode"], VIDEO)
        encoder = LoweredModel.make(checkpoint, mesh, "bfloat8_b", [ENCODE], VIDEO)
        bundled = {**dict.fromkeys(DIT_ROLES, transformer), "decode": decoder, ENCODE: encoder}
        in_float32 = {id(model): model.in_float32() for model in (transformer, decoder, encoder)}
        return cls(bundled, {role: in_float32[id(model)] for role, model in bundled.items()})

    @cached_property
    def inputs(self) -> dict[str, dict[str, Chips]]:
        """By role, in float32: of a prompt of one token and a negative one of eleven, at the second step of three."""
        known = self.exact["denoise"].conditioning(prompt(1, 1), prompt(11, 2), linear_quadratic_sigmas(3), 4.5)
        known |= {"latents": starting_noise(GEOMETRY), "step": np.array([1], np.int32)}
        given = {**dict.fromkeys(DIT_ROLES, known), "encode_text": prompt_ids(9)}
        given |= {"decode": {"latents": starting_noise(VIDEO)}, ENCODE: {"frames": rows_of_pixels(any_frames(VIDEO))}}
        return {role: self.exact[role].placed(role, arrays) for role, arrays in given.items()}


def starting_noise(geometry: Geometry) -> np.ndarray:
    """Seeded latents of the video."""
    return seeded_latents(3, (1, 12, *geometry.latent_size(CONFIG)))


def any_frames(geometry: Geometry) -> np.ndarray:
    """Return random bytes [F, H, W, 3] of the video."""
    shape = (geometry.frames, geometry.height, geometry.width, 3)
    return np.random.default_rng(4).integers(0, 256, shape, np.uint8)


def rows_of_pixels(frames: np.ndarray) -> np.ndarray:
    """Return frames as chips take them, [F, H, W * 3]."""
    return frames.reshape(*frames.shape[:2], -1)


def prompt(tokens: int, seed: int) -> Embedding:
    """Random embeddings, of which the first `tokens` count."""
    embeds = np.random.default_rng(seed).standard_normal((1, CONFIG.text_length, CONFIG.dit.caption_width))
    return Embedding(embeds.astype(np.float32), np.arange(CONFIG.text_length)[None] < tokens)


def prompt_ids(tokens: int) -> dict[str, np.ndarray]:
    """The text encoder's inputs for a prompt of so many tokens."""
    position = np.arange(CONFIG.text_length)[None]
    ids = np.where(position < tokens, position % 400 + 3, 0)
    return {"input_ids": ids.astype(np.int32), "attention_mask": position < tokens}
