"""Writes a whole checkpoint, of any size, in either layout, from parameters by their canonical names."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mochi_aot.compiler.checkpoint import diffusers, diffusers_config, genmo_config
from mochi_aot.compiler.checkpoint.atomic_folder import atomic_folder
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.frequencies import PARAMETER as FREQUENCIES
from mochi_aot.compiler.checkpoint.json_config import JsonConfig
from mochi_aot.compiler.checkpoint.layouts import GENMO, layout_sources
from mochi_aot.compiler.checkpoint.table import Source
from mochi_aot.compiler.checkpoint.tensor_writer import Tensor, write_sharded, write_tensors
from mochi_aot.compiler.checkpoint.text_encoder import COMPONENT as TEXT
from mochi_aot.compiler.checkpoint.text_encoder import text_fields
from mochi_aot.compiler.checkpoint.text_part import STEMS as TEXT_STEMS
from mochi_aot.compiler.checkpoint.word_tokenizer import write_tokenizer
from mochi_aot.compiler.reference.config import MochiConfig

SHARD_BYTES = 5_000_000_000

MODEL_INDEX = {
    "_class_name": diffusers.PIPELINE,
    "force_zeros_for_empty_prompt": False,
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", diffusers_config.TRANSFORMER_CLASS],
    "vae": ["diffusers", diffusers_config.VAE_CLASS],
}
# As published: the pipeline passes the linear-quadratic sigmas itself.
SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "invert_sigmas": True,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": False,
}

Parameters = Callable[[str], torch.Tensor]  # canonical name -> the parameter, of its shape and in any dtype
Progress = Callable[[int], None]  # called with the bytes of each tensor as it is made


def write_parameters(
    path: Path,
    config: MochiConfig,
    layout: str,
    read: Parameters,
    dtype: torch.dtype,
    replace: bool = False,
    tokenizer_json: bytes | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda nbytes: None,
) -> None:
    """Write a checkpoint of `config` to folder `path`, with tokenizer; it appears whole or not at all.

    `tokenizer_json`: the tokenizer, that of common words unless given.

    `pos_frequencies` is float32 whatever `dtype`. In Genmo's layout T5 and the tokenizer lie beside the three files, in
    Hugging Face layout. Raise CheckpointError if `path` exists (see atomic_folder) or the layout cannot hold `config`.
    """
    _check_expressible(layout, config)
    with atomic_folder(path, replace) as folder:
        components = plan(config, layout, read, dtype, progress)
        text = components.pop(TEXT)
        if layout == GENMO:
            for name, tensors in components.items():
                write_tensors(folder / f"{name}.safetensors", tensors)
        else:
            for name, tensors in components.items():
                (folder / name).mkdir()
                write_sharded(folder / name, diffusers.WEIGHTS, tensors, shard_bytes)
            _write_json(
                folder / diffusers.TRANSFORMER / "config.json",
                diffusers_config.dit_fields(config.dit, config.text_length),
            )
            _write_json(folder / diffusers.VAE / "config.json", diffusers_config.vae_fields(config.vae))
            _write_json(folder / "model_index.json", MODEL_INDEX)
            (folder / "scheduler").mkdir()
            _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
        (folder / TEXT).mkdir()
        write_sharded(folder / TEXT, TEXT_STEMS[0], text, shard_bytes)
        _write_json(folder / TEXT / "config.json", text_fields(config.text))
        write_tokenizer(folder / "tokenizer", config.text_length, tokenizer_json)


def plan(
    config: MochiConfig, layout: str, read: Parameters, dtype: torch.dtype, progress: Progress = lambda nbytes: None
) -> dict[str, list[Tensor]]:
    """Return each component's tensors, none of them made yet."""
    components: dict[str, list[Tensor]] = {}
    for source in layout_sources(layout, config):
        kept = torch.float32 if FREQUENCIES in source.parts else dtype
        make = partial(_make, source, read, kept, progress)
        components.setdefault(source.component, []).append(Tensor(source.key, source.shape, kept, make))
    return components


def _make(source: Source, read: Parameters, dtype: torch.dtype, progress: Progress) -> torch.Tensor:
    parts = [read(part).to(dtype) for part in source.parts]
    tensor = (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(source.shape)
    progress(tensor.nbytes)
    return tensor


def _check_expressible(layout: str, config: MochiConfig) -> None:
    """Raise CheckpointError unless a reader of the layout would find `config` again."""
    if layout == GENMO:
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for source in layout_sources(layout, config):
            shapes.setdefault(source.component, {})[source.key] = source.shape
        dit = genmo_config.read_dit_config(shapes["dit"])
        found = (dit, genmo_config.read_vae_config(shapes["decoder"], shapes.get("encoder")), MochiConfig.text_length)
    else:
        dit, length = diffusers_config.read_dit_config(
            _fields(diffusers_config.dit_fields(config.dit, config.text_length))
        )
        found = (
            dit,
            diffusers_config.read_vae_config(_fields(diffusers_config.vae_fields(config.vae)), config.vae.has_encoder),
            length,
        )
    for wanted, held in zip((config.dit, config.vae, config.text_length), found, strict=True):
        if wanted != held:
            raise CheckpointError(f"{layout} layout cannot hold {wanted}: it would be read as {held}")


def _fields(fields: dict[str, Any]) -> JsonConfig:
    return JsonConfig(Path("config.json"), fields)


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
