"""Finds the parts of a checkpoint, in either layout or in files of their own, and opens them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mochi_aot.compiler.checkpoint import diffusers, frequencies
from mochi_aot.compiler.checkpoint.checkpoint import Checkpoint
from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.checkpoint.content_record import ContentRecord
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.layouts import DIFFUSERS, GENMO, layout_sources
from mochi_aot.compiler.checkpoint.notices import find_notices, find_origin
from mochi_aot.compiler.checkpoint.part import Part
from mochi_aot.compiler.checkpoint.part_sources import PartSource, SingleFile, TransformerFolder
from mochi_aot.compiler.checkpoint.recognise import recognise
from mochi_aot.compiler.checkpoint.size_checks import check_sizes
from mochi_aot.compiler.checkpoint.storage import storage_name, storage_notes
from mochi_aot.compiler.checkpoint.table import Source
from mochi_aot.compiler.checkpoint.text_encoder import COMPONENT as TEXT
from mochi_aot.compiler.checkpoint.text_part import text_at
from mochi_aot.compiler.checkpoint.tokenizer import find_tokenizer
from mochi_aot.compiler.checkpoint.transformer_part import Sizes, transformer_at
from mochi_aot.compiler.checkpoint.vae_part import vae_at
from mochi_aot.compiler.checkpoint.verify import locate
from mochi_aot.compiler.checkpoint.wanted import Wanted
from mochi_aot.compiler.reference.config import MochiConfig, TextConfig, VAEConfig

ANYTHING = Wanted()


def open_checkpoint(
    path: str | Path | None,
    text_encoder: str | Path | None = None,
    check_weights: bool = True,
    record: ContentRecord | None = None,
    wanted: Wanted = ANYTHING,
) -> Checkpoint:
    """Open a checkpoint, recognising what it is, and check every tensor's name and shape.

    `path` is a folder in Genmo's or Diffusers' layout, a file that holds all networks, or nothing where `wanted` names
    each. T5 is looked for in `path`; `text_encoder` is a file, or a folder in Hugging Face layout that holds it or
    that holds `text_encoder/` and `tokenizer/`, and is taken instead. Weights are checked while they are read unless
    `check_weights` is off: one that is not finite is an error then. `record` knows, and is told, the contents of files
    that were read. Raise CheckpointError.
    """
    if text_encoder is not None:
        wanted = replace(wanted, text_encoder=Path(text_encoder))
    found = _find(None if path is None else Path(path), wanted)
    (dit, length), vae = found.transformer.config, found.vae
    config = MochiConfig(dit, vae.config, found.text.config, length)
    check_sizes(config, found.title)
    components = {name: component for part in found.parts for name, component in part.components.items()}
    sources = layout_sources(found.transformer.layout, config, vae.layout)
    keys = locate(sources, components, f"{found.title} ({found.layouts} layout)")
    notes = [*found.notes, *_use_precise_frequencies(found, components, keys), *storage_notes(components.values())]
    notices = find_notices([("", found.folder), *([] if found.text_within else [(f"{TEXT}/", found.text.folder)])])
    origin = find_origin(found.folder, notices) | _taken(found)
    return Checkpoint(
        found.transformer.layout,
        config,
        found.tokenizer,
        components,
        keys,
        record,
        check_weights,
        notes,
        notices,
        origin,
    )


@dataclass(frozen=True)
class _Found:
    """The parts of a checkpoint. `title` is what errors call it, `folder` where its licence and card are."""

    title: Path
    folder: Path
    transformer: Part[Sizes]
    vae: Part[VAEConfig]
    text: Part[TextConfig]
    tokenizer: Path
    notes: tuple[str, ...]

    @property
    def parts(self) -> tuple[Part[Any], ...]:
        return (self.transformer, self.vae, self.text)

    @property
    def layouts(self) -> str:
        """The layout of the transformer and of the VAE, in words."""
        one, other = self.transformer.layout, self.vae.layout
        return one if one == other else f"{one} transformer, {other} VAE"

    @property
    def text_within(self) -> bool:
        return self.text.folder == self.folder


def _find(root: Path | None, wanted: Wanted) -> _Found:
    """Find and open each part: where it is named by itself, or else in the checkpoint. Raise CheckpointError."""
    source, choices = _source(root, wanted)
    transformer = transformer_at(wanted.transformer, wanted.variant) if wanted.transformer else source.transformer()
    text = text_at(wanted.text_encoder, wanted.variant) if wanted.text_encoder else source.text()
    vae = vae_at(wanted.vae, wanted.variant) if wanted.vae else source.vae()
    parts: tuple[Part[Any], ...] = (transformer, vae, text)
    variants = {part.variant for part in parts}
    if wanted.variant and wanted.variant not in variants:
        raise CheckpointError(f"{root or transformer.folder} has no weights of variant {wanted.variant}")
    notes = (*choices, *(note for part in parts for note in part.notes))
    folder = transformer.folder if root is None else root if root.is_dir() else root.parent
    tokenizer = find_tokenizer(_tokenizer_folders(root, wanted, text))
    return _Found(root or transformer.folder, folder, transformer, vae, text, tokenizer, notes)


def _source(root: Path | None, wanted: Wanted) -> tuple[PartSource, list[str]]:
    if root is not None:
        return recognise(root, wanted)
    if wanted.transformer is None:
        raise CheckpointError(
            "no checkpoint was given: --checkpoint names one, or --transformer the transformer's file"
        )
    if wanted.transformer.is_dir():
        return TransformerFolder(wanted.transformer, wanted.variant), []
    return SingleFile(wanted.transformer), []


def _tokenizer_folders(root: Path | None, wanted: Wanted, text: Part[TextConfig]) -> Iterator[Path]:
    """Yield where T5's tokenizer may be."""
    if wanted.tokenizer is not None:
        yield wanted.tokenizer if wanted.tokenizer.is_dir() else wanted.tokenizer.parent
        return
    given = wanted.text_encoder
    if given is not None and given.is_dir():
        yield from (given / "tokenizer", given, given.parent / "tokenizer")
    if root is not None and root.is_dir():
        yield root / "tokenizer"
    yield text.folder
    yield text.folder / "tokenizer"


def _taken(found: _Found) -> dict[str, str]:
    """Return which weights were taken: their variant, and how most of them are stored, by network where that
    differs."""
    names = ("transformer", "vae", TEXT)
    dtypes = {
        name: storage_name(component)
        for name, part in zip(names, found.parts, strict=True)
        for component in list(part.components.values())[:1]
    }
    taken = {"dtype": _in_words(dtypes)}
    hugging_face = {name: part for name, part in zip(names, found.parts, strict=True) if part.layout != GENMO}
    if DIFFUSERS in (part.layout for part in found.parts):
        taken["variant"] = _in_words({name: part.variant or "none" for name, part in hugging_face.items()})
    if found.vae.layout != found.transformer.layout:
        taken["vae_layout"] = found.vae.layout
    return taken


def _in_words(values: Mapping[str, str]) -> str:
    """Return the one value that all names have, or each with its name."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _use_precise_frequencies(
    found: _Found, components: Mapping[str, Component], keys: Mapping[Source, str]
) -> list[str]:
    """Look for them in the transformer's files of either layout. Return what is to be said of it."""
    (source,) = (source for source in keys if frequencies.PARAMETER in source.parts)
    folders = dict.fromkeys((found.folder / diffusers.TRANSFORMER, found.folder, found.transformer.folder))
    note = frequencies.use_float32(components[source.component], keys[source], folders)
    return [] if note is None else [note]
