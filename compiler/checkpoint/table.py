"""A layout as data: which tensor of which component holds which parameters, and in which order.

A tensor in a file is one or more parameters stacked on dim 0, perhaps in another shape. The reader takes rows out of
it, the writer stacks them again; both follow the same table.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from mochi_aot.compiler.checkpoint.naming import Shape, Shapes, decoder_shapes, dit_shapes
from mochi_aot.compiler.reference.config import DiTConfig, VAEConfig


@dataclass(frozen=True)
class Source:
    """One tensor of a layout: `parts` are the canonical names stacked on dim 0, `shape` is the shape in the file.

    `alias` is another key under which the same tensor may stand, instead or as well.
    """

    component: str
    key: str
    shape: Shape
    parts: tuple[str, ...]
    alias: str | None = None


@dataclass(frozen=True)
class Entry:
    """Where a parameter is: rows [start, stop) of a source, then reshaped to `shape`."""

    source: Source
    start: int
    stop: int
    shape: Shape


class Table:
    """Collects the sources of one component; the shapes come from the canonical parameters."""

    def __init__(self, component: str, shapes: Shapes) -> None:
        self.sources: list[Source] = []
        self._component = component
        self._shapes = shapes

    def add(self, key: str, *parts: str, tail: Shape | None = None) -> None:
        """Add tensor `key`, which is `parts` stacked; `tail` is its shape past dim 0 where it is not the parameter's
        own."""
        rows = sum(self._shapes[part][0] for part in parts)
        inner = self._shapes[parts[0]][1:] if tail is None else tail
        self.sources.append(Source(self._component, key, (rows, *inner), parts))

    def module(self, key: str, *names: str, tail: Shape | None = None) -> None:
        """Add the weight of modules `names`, and the bias where there is one, stacked under `key`."""
        self.add(f"{key}.weight", *(f"{name}.weight" for name in names), tail=tail)
        if f"{names[0]}.bias" in self._shapes:
            self.add(f"{key}.bias", *(f"{name}.bias" for name in names))


@dataclass(frozen=True)
class DiTNames:
    """What a layout calls the modules of the transformer that stand beside its blocks.

    `modulation` holds the canonical modules `modulation_parts`, stacked in this order.
    """

    component: str
    patch_embed: str
    time_embed: tuple[str, str]
    caption_pool: str
    caption_proj: str
    modulation: str
    modulation_parts: tuple[str, str]
    final_proj: str


def dit_sources(names: DiTNames, config: DiTConfig, add_block: Callable[[Table, DiTConfig, int], None]) -> list[Source]:
    """Return the transformer's tensors; `add_block` adds those of a block by its number."""
    table = Table(names.component, dit_shapes(config))
    table.add("pos_frequencies", "dit.pos_frequencies")
    table.module(names.patch_embed, "dit.patch_embed", tail=(config.in_channels, config.patch, config.patch))
    for name, layer in zip(names.time_embed, ("fc1", "fc2"), strict=True):
        table.module(name, f"dit.time_embed.{layer}")
    for layer in ("to_kv", "to_q", "to_out"):
        table.module(f"{names.caption_pool}.{layer}", f"dit.caption_pool.{layer}")
    table.module(names.caption_proj, "dit.caption_proj")
    for block in range(config.layers):
        add_block(table, config, block)
    table.module(names.modulation, *names.modulation_parts)
    table.module(names.final_proj, "dit.final.proj")
    return table.sources


@dataclass(frozen=True)
class DecoderNames:
    """What a layout calls the modules of the decoder.

    Stages run from the latent's end: 0 is block_in, the last is block_out, those between end in an unfolding `proj`.
    `resnet` gives a module by its stage, the number of stages and its place there.
    """

    component: str
    conv_in: str
    resnet: Callable[[int, int, int], str]
    proj: Callable[[int], str]
    proj_out: str


def decoder_sources(
    names: DecoderNames, config: VAEConfig, add_resnet: Callable[[Table, str, str], None]
) -> list[Source]:
    """Return the decoder's tensors; `add_resnet` adds those of a residual block by its name there and its own."""
    table = Table(names.component, decoder_shapes(config))
    counts = config.decoder_res[::-1]
    last = len(counts) - 1
    table.module(names.conv_in, "decoder.conv_in", tail=(config.latent_channels, 1, 1, 1))
    for stage, count in enumerate(counts):
        inner = {0: "decoder.block_in", last: "decoder.block_out"}.get(stage, f"decoder.up.{stage - 1}.res")
        for index in range(count):
            add_resnet(table, names.resnet(stage, len(counts), index), f"{inner}.{index}")
        if 0 < stage < last:
            table.module(names.proj(stage), f"decoder.up.{stage - 1}.proj")
    table.module(names.proj_out, "decoder.proj_out")
    return table.sources


def entries(sources: Iterable[Source], shapes: Mapping[str, Shape]) -> dict[str, Entry]:
    """Return by canonical name where each parameter is.

    Raise ValueError where a table does not hold each parameter exactly once.
    """
    found: dict[str, Entry] = {}
    for source in sources:
        row = 0
        for part in source.parts:
            shape = shapes[part]
            if part in found:
                raise ValueError(f"{part} is in {found[part].source.key} and in {source.key}")
            found[part] = Entry(source, row, row + shape[0], shape)
            row += shape[0]
        if prod(source.shape) != sum(prod(shapes[part]) for part in source.parts):
            raise ValueError(f"{source.key} {source.shape} does not hold exactly {source.parts}")
    if absent := shapes.keys() - found.keys():
        raise ValueError(f"no source for {sorted(absent)}")
    return {name: found[name] for name in shapes}
