"""The text encoder of a checkpoint: a folder in Hugging Face layout, or T5 in one file."""

import re
from pathlib import Path

from mochi_aot.compiler.checkpoint.component import Component, find_weights, open_weights
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import JsonConfig
from mochi_aot.compiler.checkpoint.naming import Shape
from mochi_aot.compiler.checkpoint.part import Part, choice_notes, held
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.checkpoint.text_encoder import COMPONENT, TIED, read_text_config
from mochi_aot.compiler.reference.config import TextConfig

STEMS = ("model", "diffusion_pytorch_model")  # names that transformers and diffusers give T5's weight files
HUGGING_FACE = "huggingface"  # the only layout of T5's keys

_ATTENTION = "encoder.block.0.layer.0.SelfAttention"
_FEED_FORWARD = "encoder.block.0.layer.1.DenseReluDense"
_BLOCK = re.compile(r"encoder\.block\.(\d+)\.")


def text_at(path: Path, variant: str | None) -> Part[TextConfig]:
    """Open T5 in a file, in a folder with its config.json, or in text_encoder/ below one. Raise CheckpointError."""
    if not path.is_dir() and path.exists():
        return text_in(TensorFile(path))
    for folder in (path / COMPONENT, path):
        if (folder / "config.json").is_file():
            return text_in_folder(folder, variant)
    raise CheckpointError(
        f"{path} is no text encoder: expected config.json or {COMPONENT}/config.json in it, or a file"
    )


def text_in_folder(folder: Path, variant: str | None) -> Part[TextConfig]:
    """Open T5 in a folder with its config.json. Raise CheckpointError."""
    choice = find_weights(folder, STEMS, variant)
    component = open_weights(COMPONENT, folder, choice)
    config = read_text_config(JsonConfig.read(folder / "config.json"))
    notes = choice_notes(folder, choice, variant)
    return Part(HUGGING_FACE, config, {COMPONENT: component}, folder, choice.taken.variant, notes)


def text_in(file: TensorFile) -> Part[TextConfig]:
    """Return T5 in a file, with sizes of the config.json beside it if there is one for T5, or else of its shapes."""
    component = Component(COMPONENT, [held(file, COMPONENT)[COMPONENT]])
    return Part(HUGGING_FACE, _sizes(component.shapes()), {COMPONENT: component}, file.path.parent)


def _sizes(shapes: dict[str, Shape]) -> TextConfig:
    """Return the sizes that shapes tell; those that they do not are the published ones.

    A tensor that is absent tells none of its own, and is then reported missing.
    """
    default = TextConfig()
    embeddings = shapes.get("shared.weight") or shapes.get(TIED) or (default.vocab_size, default.d_model)
    biases = shapes.get(f"{_ATTENTION}.relative_attention_bias.weight")
    buckets, heads = biases or (default.relative_attention_num_buckets, default.num_heads)
    inner = shapes.get(f"{_ATTENTION}.q.weight", (heads * default.d_kv,))[0]
    numbers = [int(match[1]) for key in shapes if (match := _BLOCK.match(key))]
    return TextConfig(
        vocab_size=embeddings[0],
        d_model=embeddings[1],
        d_kv=max(inner // heads, 1),
        num_heads=heads,
        num_layers=max(numbers, default=default.num_layers - 1) + 1,
        d_ff=shapes.get(f"{_FEED_FORWARD}.wi_0.weight", (default.d_ff,))[0],
        relative_attention_num_buckets=buckets,
    )
