"""A bundle written by hand, a few instructions a program, whose results numpy can tell.

With text embeddings e (table rows of the ids, 0 where masked) and s = the sum of all e of a prompt:
    prompt.0 = s(prompt) * w_prompt                prompt.1 = s(negative prompt) * w_prompt
    steps.0[i] = next_sigma[i] - sigma[i]          steps.1[i] = prompt.1 + guidance[i] * (prompt.0 - prompt.1)
    latents <- latents + steps.0[i] * (steps.1[i] + w_dit * latents)
Decoding repeats latent channels 0 to 2 over 8x8 pixels and 6 frames (the first latent frame gives one frame), and
counts what is not finite of that.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mochi_aot.artifacts import Bundle, BundleWriter
from mochi_aot.artifacts.delta import OpenDelta
from mochi_aot.artifacts.delta_schema import Delta, Factor, Product, TunedWeight
from mochi_aot.artifacts.envelope import pack
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.layout import DELTA_MAGIC, DELTA_PATH, factor_path
from mochi_aot.artifacts.schema import (
    Attr,
    File,
    Geometry,
    Instruction,
    MeshSettings,
    Placement,
    Program,
    ProgramInput,
    ProgramOutput,
    ProgramStats,
    ProgramWeight,
    TensorSpec,
    Weight,
)

LENGTH, WIDTH, VOCABULARY = 8, 4, 12
CAPACITY = 3  # steps a table; small, so that several tables are met
SIZES = [(16, 32, 13), (16, 16, 7)]

_RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "text": _RANDOM.standard_normal((VOCABULARY, WIDTH)).astype(np.float32),
    "w_prompt": np.array([0.25], np.float32),
    "w_time": np.array([1.0], np.float32),
    "w_dit": np.array([0.5], np.float32),
    "w_vae": np.array([40.0], np.float32),
}


class Body:
    """Collects a program's parts; frees each value at its last use."""

    def __init__(self, name: str, mesh: Sequence[int]) -> None:
        self.name, self.mesh = name, mesh
        self.inputs: list[ProgramInput] = []
        self.weights: list[ProgramWeight] = []
        self.outputs: list[ProgramOutput] = []
        self.instructions: list[Instruction] = []
        self.count = 0

    def spec(self, dtype: str, shape: Sequence[int], split: bool = False) -> TensorSpec:
        """`split` shards the last dim over the columns of the mesh."""
        local, placements = list(shape), [None, None]
        if split and self.mesh[1] > 1:
            local[-1] = -(-shape[-1] // self.mesh[1])
            return TensorSpec(dtype, list(shape), local, [None, Placement(len(shape) - 1, local[-1])])
        return TensorSpec(dtype, list(shape), local, list(placements))

    def value(self) -> int:
        self.count += 1
        return self.count - 1

    def input(self, name: str, dtype: str, shape: Sequence[int], rate: str, split: bool = False) -> int:
        self.inputs.append(ProgramInput(name, self.value(), self.spec(dtype, shape, split), rate))
        return self.count - 1

    def weight(self, name: str) -> int:
        self.weights.append(ProgramWeight(name, self.value(), "float32", list(WEIGHTS[name].shape)))
        return self.count - 1

    def op(self, op: str, *operands: int, **attrs: Attr) -> int:
        where = f"toy_bundle.py:{len(self.instructions)}"
        self.instructions.append(Instruction(op, list(operands), [self.value()], attrs, [], where))
        return self.count - 1

    def output(self, name: str, value: int, dtype: str, shape: Sequence[int], split: bool = False) -> None:
        self.outputs.append(ProgramOutput(name, value, self.spec(dtype, shape, split)))

    def program(self) -> Program:
        kept = {item.value for item in self.weights} | {item.value for item in self.outputs}
        instructions = []
        for item in reversed(self.instructions):
            dead = sorted({*item.operands, *item.results} - kept)
            kept.update(dead)
            instructions.append(Instruction(item.op, item.operands, item.results, item.attrs, dead, item.loc))
        stats = ProgramStats(0, 0, 0, {})
        return Program(
            self.name, list(self.mesh), "hand", self.inputs, self.weights, self.outputs, instructions[::-1], stats
        )


def latent_shape(size: Sequence[int]) -> list[int]:
    height, width, frames = size
    return [1, 12, (frames - 1) // 6 + 1, height // 8, width // 8]


def _encode_text(mesh: Sequence[int]) -> Program:
    body = Body("encode_text", mesh)
    ids = body.input("input_ids", "int32", [1, LENGTH], "prompt")
    mask = body.input("attention_mask", "bool", [1, LENGTH], "prompt")
    rows = body.op("embedding", body.weight("text"), ids)
    wide = body.op("reshape", mask, shape=[1, LENGTH, 1])
    result = body.op("where_scalar", wide, rows, value=0.0)
    body.output("prompt_embeds", result, "float32", [1, LENGTH, WIDTH])
    return body.program()


def _prepare_prompt(mesh: Sequence[int]) -> Program:
    body = Body("prepare_prompt", mesh)
    scale = body.weight("w_prompt")
    for index, prefix in enumerate(("", "negative_")):
        embeds = body.input(f"{prefix}prompt_embeds", "float32", [1, LENGTH, WIDTH], "prompt")
        mask = body.input(f"{prefix}prompt_attention_mask", "bool", [1, LENGTH], "prompt")
        wide = body.op("reshape", mask, shape=[1, LENGTH, 1])
        attended = body.op("where_scalar", wide, embeds, value=0.0)
        total = body.op("sum", attended, dims=[1, 2], keepdim=False)
        body.output(f"prompt.{index}", body.op("mul", total, scale), "float32", [1])
    return body.program()


def _prepare_steps(mesh: Sequence[int]) -> Program:
    body = Body("prepare_steps", mesh)
    sigma, after, guidance = (
        body.input(name, "float32", [CAPACITY], "step") for name in ("sigma", "next_sigma", "guidance_scale")
    )
    positive, negative = (body.input(f"prompt.{index}", "float32", [1], "prompt") for index in (0, 1))
    difference = body.op("mul", body.op("sub", after, sigma), body.weight("w_time"))
    guided = body.op("add", negative, body.op("mul", guidance, body.op("sub", positive, negative)))
    for index, table in enumerate((difference, guided)):
        body.output(f"steps.{index}", body.op("reshape", table, shape=[CAPACITY, 1]), "float32", [CAPACITY, 1])
    return body.program()


def _denoise(mesh: Sequence[int], size: Sequence[int]) -> Program:
    body = Body("denoise", mesh)
    latents = body.input("latents", "float32", latent_shape(size), "latent", split=True)
    step = body.input("step", "int32", [1], "step")
    difference, guided = (
        body.op("select", body.input(f"steps.{index}", "float32", [CAPACITY, 1], "step"), step, dim=0)
        for index in (0, 1)
    )
    velocity = body.op("add", guided, body.op("mul", latents, body.weight("w_dit")))
    result = body.op("add", latents, body.op("mul", difference, velocity))
    body.output("latents", result, "float32", latent_shape(size), split=True)
    return body.program()


def _decode(mesh: Sequence[int], size: Sequence[int]) -> Program:
    height, width, frames = size
    _, _, times, rows, columns = shape = latent_shape(size)
    body = Body("decode", mesh)
    latents = body.input("latents", "float32", shape, "latent")
    colours = body.op("permute", body.op("slice", latents, dim=1, start=0, stop=3), dims=[0, 2, 3, 4, 1])
    small = body.op("reshape", colours, shape=[times, rows, 1, columns, 1, 3])
    large = body.op("expand", small, shape=[times, rows, 8, columns, 8, 3])
    images = body.op("reshape", large, shape=[times, 1, height, width, 3])
    first = body.op("reshape", body.op("slice", images, dim=0, start=0, stop=1), shape=[1, height, width, 3])
    rest = body.op(
        "expand", body.op("slice", images, dim=0, start=1, stop=times), shape=[times - 1, 6, height, width, 3]
    )
    video = body.op("concat", first, body.op("reshape", rest, shape=[frames - 1, height, width, 3]), dim=0)
    grey = body.op("add_scalar", body.op("mul", video, body.weight("w_vae")), value=127.5)
    counted = body.op("count_nonfinite", body.op("reshape", grey, shape=[1, frames, height, width, 3]), valid=[])
    body.output("nonfinite", counted, "float32", [1, 1])
    limited = body.op("clamp", body.op("round", grey), min=0.0, max=255.0)
    body.output("frames", body.op("cast", limited, dtype="uint8"), "uint8", [frames, height, width, 3])
    return body.program()


def _encode(mesh: Sequence[int], size: Sequence[int]) -> Program:
    """Frame 0, 6, 12, ... averaged over 8x8 pixels, as a number from 0 to 1, in all of red, green and blue x 4."""
    height, width, frames = size
    _, _, times, rows, columns = shape = latent_shape(size)
    body = Body("encode", mesh)
    video = body.op("cast", body.input("frames", "uint8", [frames, height, width, 3], "latent"), dtype="float32")
    kept = [body.op("slice", video, dim=0, start=6 * index, stop=6 * index + 1) for index in range(times)]
    blocks = body.op("reshape", body.op("concat", *kept, dim=0), shape=[times, rows, 8, columns, 8, 3])
    means = body.op("mul_scalar", body.op("mean", blocks, dims=[2, 4], keepdim=False), value=1 / 255)
    moved = body.op("reshape", body.op("permute", means, dims=[3, 0, 1, 2]), shape=[1, 3, times, rows, columns])
    body.output("latents", body.op("concat", *[moved] * 4, dim=1), "float32", shape)
    return body.program()


def programs(size: Sequence[int] = SIZES[0], mesh: Sequence[int] = (1, 1)) -> dict[str, Program]:
    """Returns the programs of one geometry by role."""
    return {
        "encode_text": _encode_text(mesh),
        "prepare_prompt": _prepare_prompt(mesh),
        "prepare_steps": _prepare_steps(mesh),
        "denoise": _denoise(mesh, size),
        "decode": _decode(mesh, size),
        "encode": _encode(mesh, size),
    }


@cache
def tokenizer_json() -> bytes:
    """Words to ids, </s> at the end; ids 0 1 2 = pad, end, unknown."""
    words = ["<pad>", "</s>", "<unk>", "a", "red", "fox", "green", "owl", "in", "the", "snow", "blurry"]
    assert len(words) == VOCABULARY
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer.to_str().encode()


def write_bundle(
    path: Path,
    mesh: Sequence[int] = (1, 1),
    target: str = "torch",
    without: Sequence[str] = (),
    tokenizer: bytes | None = None,
    own_shards: bool = False,
) -> str:
    """Writes the bundle, without the programs of some roles if asked to, and returns its id.

    With `own_shards` each device has a shard of its own, of other numbers.
    """
    with BundleWriter(path) as writer:
        geometries = []
        for size in SIZES:
            chosen = {role: item for role, item in programs(size, mesh).items() if role not in without}
            geometries.append(Geometry(*size, {role: writer.add_program(item) for role, item in chosen.items()}))
        for name, array in WEIGHTS.items():
            devices = range(mesh[0] * mesh[1])
            shards = [writer.add_shard(array + np.float32(device * own_shards)) for device in devices]
            writer.add_weight(Weight(name, "float32", list(array.shape), shards))
        writer.add_tokenizer(tokenizer_json() if tokenizer is None else tokenizer)
        return writer.finish(
            target=target,
            mesh=list(mesh),
            dtype="float32",
            step_capacity=CAPACITY,
            text_length=LENGTH,
            model={},
            checkpoint={"dit": "0" * 64},
            versions={"compiler": "1"},
            geometries=geometries,
            created_by="test",
            mesh_settings=MeshSettings("wormhole_b0", "1d", 0, 0) if target == "ttnn" else None,
            ttnn="0.1" if target == "ttnn" else "",
        )


def write_brighter(path: Path, base: Path, amount: float) -> OpenDelta:
    """Writes and opens a delta of a toy bundle that adds `amount` to each number of the text table, by factors."""
    data = np.ones(VOCABULARY, np.float32).tobytes() + np.full(WIDTH, amount, np.float32).tobytes()
    factors = [Factor("float32", [VOCABULARY, 1], 0), Factor("float32", [1, WIDTH], 4 * VOCABULARY)]
    product = Product(0, 1, 1.0, 0, 0, [VOCABULARY, WIDTH], [None, None])
    file = File(factor_path(hash_bytes(data)), len(data), hash_bytes(data))
    tuned = [TunedWeight("text", "", "plain", [product])]
    delta = Delta(Bundle.open(base).id, "0" * 64, {}, factors, tuned, [], [], [file], "test")
    (path / file.path).parent.mkdir(parents=True)
    (path / file.path).write_bytes(data)
    (path / DELTA_PATH).write_bytes(pack(DELTA_MAGIC, delta, "delta"))
    return OpenDelta.open(path)


def expected_embeds(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float32 [1, LENGTH, WIDTH]."""
    rows: np.ndarray = WEIGHTS["text"][ids] * mask[..., None]
    return rows


def expected_latents(
    noise: np.ndarray, sigmas: np.ndarray, guidance: float, positive: np.ndarray, negative: np.ndarray
) -> np.ndarray:
    """Denoised latents in float64; `positive` and `negative` are embeddings whose masked rows are zero."""
    latents = noise.astype(np.float64)
    text, negative_text = (embeds.astype(np.float64).sum() * WEIGHTS["w_prompt"][0] for embeds in (positive, negative))
    guided = negative_text + guidance * (text - negative_text)
    for sigma, after in zip(sigmas[:-1].astype(np.float64), sigmas[1:].astype(np.float64), strict=True):
        latents = latents + (after - sigma) * (guided + WEIGHTS["w_dit"][0] * latents)
    return latents


def expected_frames(latents: np.ndarray) -> np.ndarray:
    """uint8 [F, H, W, 3]."""
    colours = latents[0, :3].transpose(1, 2, 3, 0).repeat(8, axis=1).repeat(8, axis=2)
    video = np.concatenate([colours[:1], colours[1:].repeat(6, axis=0)])
    return np.clip(np.round(video * WEIGHTS["w_vae"][0] + np.float32(127.5)), 0, 255).astype(np.uint8)
