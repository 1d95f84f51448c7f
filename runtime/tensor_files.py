"""Prompt embeddings and latents in safetensors files, under diffusers' names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.safetensors_header import Entry
from mochi_aot.runtime.errors import InputFileError, OptionError
from mochi_aot.runtime.safetensors_file import read_header, read_tensor


@dataclass(frozen=True)
class Embedding:
    """What the text encoder made of one prompt: embeds float32 [1, length, width], mask bool [1, length]."""

    embeds: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class PromptEntries:
    """The checked header of a prompt file; the negative pair may be left out of the file."""

    path: Path
    positive: tuple[Entry, Entry]
    negative: tuple[Entry, Entry] | None


def check_prompt_file(path: Path, embeds_shape: Sequence[int]) -> PromptEntries:
    """Check names and shapes of a prompt file by its header; `embeds_shape` is [1, length, width].

    Raise InputFileError if a tensor is missing or has another shape, or if only one of the negative pair is there.
    """
    header = read_header(path)
    positive = _pair(path, header, "", embeds_shape)
    if not any(name.startswith("negative_prompt_") for name in header):
        return PromptEntries(path, positive, None)
    return PromptEntries(path, positive, _pair(path, header, "negative_", embeds_shape))


def check_prompt_masks(entries: PromptEntries) -> None:
    """Read the masks of a checked prompt file. Raise InputFileError for one that `require_first` refuses."""
    for prefix, pair in (("", entries.positive), ("negative_", entries.negative)):
        if pair is not None:
            name = f"{prefix}prompt_attention_mask"
            require_first(_mask(entries.path, pair[1], name), f"{entries.path}: {name}")


def embedding(embeds: object, mask: object, embeds_shape: Sequence[int], prefix: str = "") -> Embedding:
    """Return an encoded prompt that somebody gives as arrays, or things that numpy takes for arrays.

    `embeds_shape` is [1, length, width], `prefix` what stands before the arrays' names in messages. Raise OptionError
    for other shapes, and values that are not finite, or of the mask neither 0 nor 1.
    """
    values = floats(embeds, embeds_shape, f"{prefix}prompt_embeds")
    marks = floats(mask, embeds_shape[:2], f"{prefix}prompt_attention_mask")
    if not np.isin(marks, (0, 1)).all():
        raise OptionError(f"{prefix}prompt_attention_mask has values other than 0 and 1")
    return Embedding(values, marks.astype(np.bool_))


def floats(value: object, shape: Sequence[int], name: str) -> np.ndarray:
    """Return float32 [*shape]. Raise OptionError, calling it `name`, for another shape or values not finite."""
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} is no array of numbers: {error}") from None
    if array.shape != tuple(shape):
        raise OptionError(f"{name} has shape {list(array.shape)}, expected {list(shape)}")
    if not np.isfinite(array).all():
        raise OptionError(f"{name} has values that are not finite")
    return array


def require_first(mask: np.ndarray, what: str) -> None:
    """Raise InputFileError, naming `what`, unless the ones of mask [1, length] come before its zeros."""
    counts = mask.reshape(-1) != 0
    late = np.flatnonzero(counts[1:] & ~counts[:-1])
    if len(late):
        problem = f"{what} has a one after zeros, at token {late[0] + 1}, which this bundle's target cannot mask"
        raise InputFileError(f"{problem}; put the tokens that count first, or compile for torch")


def load_prompt_file(entries: PromptEntries) -> tuple[Embedding, Embedding | None]:
    """Return the embedding of the prompt and, where the file has one, of the negative prompt.

    Raise InputFileError for values that are not finite and masks that are not of zeros and ones.
    """
    positive = _load_pair(entries.path, entries.positive, "")
    if entries.negative is None:
        return positive, None
    return positive, _load_pair(entries.path, entries.negative, "negative_")


def save_prompt_file(path: Path, positive: Embedding, negative: Embedding) -> None:
    """Write a prompt file, whole or not at all."""
    tensors = {
        "prompt_embeds": positive.embeds,
        "prompt_attention_mask": positive.mask,
        "negative_prompt_embeds": negative.embeds,
        "negative_prompt_attention_mask": negative.mask,
    }
    _save(path, tensors)


def check_latents_file(path: Path, shape: Sequence[int]) -> Entry:
    """Check that the file has `latents` of `shape` = [1, 12, T, H/8, W/8]. Raise InputFileError."""
    return _require(path, read_header(path), "latents", shape)


def load_latents_file(path: Path, entry: Entry) -> np.ndarray:
    """Return the latents, float32, as the sampler sees them. Raise InputFileError for values that are not finite."""
    return _floats(path, entry, "latents")


def save_latents_file(path: Path, latents: np.ndarray, notes: Mapping[str, str] | None = None) -> None:
    """Write a latents file, whole or not at all; `notes` become the file's metadata."""
    _save(path, {"latents": latents}, notes)


def _pair(path: Path, header: Mapping[str, Entry], prefix: str, embeds_shape: Sequence[int]) -> tuple[Entry, Entry]:
    embeds = _require(path, header, f"{prefix}prompt_embeds", embeds_shape)
    return embeds, _require(path, header, f"{prefix}prompt_attention_mask", embeds_shape[:2])


def _require(path: Path, header: Mapping[str, Entry], name: str, shape: Sequence[int]) -> Entry:
    if name not in header:
        raise InputFileError(f"{path} has no tensor {name!r}; it has {', '.join(sorted(header)) or 'none'}")
    if header[name].shape != tuple(shape):
        raise InputFileError(f"{path}: {name} has shape {list(header[name].shape)}, the bundle wants {list(shape)}")
    return header[name]


def _load_pair(path: Path, entries: tuple[Entry, Entry], prefix: str) -> Embedding:
    embeds, mask = entries
    return Embedding(
        _floats(path, embeds, f"{prefix}prompt_embeds"), _mask(path, mask, f"{prefix}prompt_attention_mask")
    )


def _floats(path: Path, entry: Entry, name: str) -> np.ndarray:
    array = read_tensor(path, entry).astype(np.float32)
    if not np.isfinite(array).all():
        raise InputFileError(f"{path}: {name} has values that are not finite")
    return array


def _mask(path: Path, entry: Entry, name: str) -> np.ndarray:
    array = read_tensor(path, entry)
    if not np.isin(array, (0, 1)).all():
        raise InputFileError(f"{path}: {name} has values other than 0 and 1")
    return array.astype(np.bool_)


def _save(path: Path, tensors: Mapping[str, np.ndarray], notes: Mapping[str, str] | None = None) -> None:
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(contiguous, dict(notes) if notes else None))
