"""What makes another bundle of a bundle, as plain data: products that are added to weights, and weights in their place.

docs/format.md says what the fields mean.
"""

from dataclasses import dataclass

from mochi_aot.artifacts.schema import File, Placement, Shard, Weight


@dataclass(frozen=True)
class Factor:
    """A matrix, row-major and little-endian, from byte `offset` of the file of factors; float32, bfloat16 or
    float16."""

    dtype: str
    shape: list[int]
    offset: int


@dataclass(frozen=True)
class Product:
    """What is added to a part of a weight: scale * (factors[up] @ factors[down])[first : first + shape[0]].

    `shape` is the whole part's, and `placements` say which piece of it a device holds, as those of a TensorSpec do;
    that piece begins at row `row` of what the device holds of the weight.
    """

    up: int
    down: int
    scale: float
    first: int
    row: int
    shape: list[int]
    placements: list[Placement | None]


@dataclass(frozen=True)
class TunedWeight:
    """A weight to which products are added, each in the whole of its own rows.

    `source` is that of the weight without them. `form` is how devices hold [outputs, inputs]: `plain`, `transposed`, or
    `swiglu`, transposed with columns of the two halves in turns, 32 at a time.
    """

    name: str
    source: str
    form: str
    products: list[Product]


@dataclass(frozen=True)
class LoraRecord:
    """What a bundle says of the LoRAs in it: the file of factors, by its hash, and what they are added to."""

    data: str
    factors: list[Factor]
    weights: list[TunedWeight]


@dataclass(frozen=True)
class Delta:
    """What makes the bundle `style` of the bundle `base`, both ids; `style` is empty where no such bundle was compiled.

    `tuned` are weights to which products of factors are added; `weights` those that take the place of the base's, with
    indices into `shards` and `files`, which are the delta's own. `checkpoint` is the style's.
    """

    base: str
    style: str
    checkpoint: dict[str, str]
    factors: list[Factor]
    tuned: list[TunedWeight]
    weights: list[Weight]
    shards: list[Shard]
    files: list[File]
    created_by: str
