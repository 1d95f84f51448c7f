"""What must hold in a delta, and in a bundle's record of its LoRAs, beyond the types of their fields.

Whoever writes either and whoever reads it runs the same checks.
"""

import math
from collections.abc import Mapping, Sequence

from mochi_aot.artifacts.delta_schema import Delta, Factor, LoraRecord, Product, TunedWeight
from mochi_aot.artifacts.layout import HASH_HEX, factor_path, tensor_path, weight_path
from mochi_aot.artifacts.limits import check_shape
from mochi_aot.artifacts.low_rank import FACTOR_DTYPES, FORMS, factor_bytes, held_slices, natural_shape
from mochi_aot.artifacts.schema import File, Manifest, Weight
from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.artifacts.validate import check_shards_of_files, check_weight, require, require_unique

TUNED_DTYPES = ("float32", "bfloat16", "bfloat8_b")


def check_record(record: LoraRecord, manifest: Manifest, where: str) -> None:
    """Raise BundleError unless a bundle's record of its LoRAs is about weights and a file that it has."""
    files = {file.blake3: file.nbytes for file in manifest.files if file.path == factor_path(file.blake3)}
    require(record.data in files, where, f"its file of factors, {record.data}, is not in the bundle")
    _check_factors(record.factors, files[record.data], where)
    _check_tuned(record.weights, record.factors, manifest, where)


def check_delta(delta: Delta, where: str) -> None:
    """Raise BundleError for a delta that contradicts itself; `check_fits` compares it with its base."""
    for name, seen in (("base", delta.base), ("style", delta.style or delta.base)):  # not every style has a bundle
        require(HASH_HEX.fullmatch(seen) is not None, where, f"{name}: expected the id of a bundle, seen {seen!r}")
    for index, file in enumerate(delta.files):
        _check_file(file, f"{where}: files[{index}]")
    require_unique((file.path for file in delta.files), where, "file")
    require_unique([*(w.name for w in delta.tuned), *(w.name for w in delta.weights)], where, "weight")
    require(bool(delta.tuned or delta.weights), where, "it changes no weight")
    sizes = [file.nbytes for file in delta.files if file.path == factor_path(file.blake3)]
    require(len(sizes) == bool(delta.factors), where, f"expected a file of factors if there are any, seen {len(sizes)}")
    _check_factors(delta.factors, sizes[0] if sizes else 0, where)
    check_shards_of_files(delta.shards, delta.files, delta.weights, where)


def check_fits(delta: Delta, base: Manifest, where: str) -> None:
    """Raise BundleError unless each weight of a delta can take its place among those of its base."""
    _check_tuned(delta.tuned, delta.factors, base, where)
    known = {weight.name: weight for weight in base.weights}
    for weight in delta.weights:
        what = f"{where}: weight {weight.name!r}"
        require(weight.name in known, what, "the base has none of this name")
        check_weight(weight, base.mesh, delta.shards, delta.files, what)
        held = known[weight.name]
        same = (weight.dtype, weight.local_shape, weight.file is None) == (
            held.dtype,
            held.local_shape,
            held.file is None,
        )
        require(same, what, f"expected {held.dtype} {held.local_shape}, seen {weight.dtype} {weight.local_shape}")


def _check_file(file: File, where: str) -> None:
    paths = [place(file.blake3) for place in (factor_path, weight_path, tensor_path)]
    require(HASH_HEX.fullmatch(file.blake3) is not None, where, f"expected BLAKE3 in hex, seen {file.blake3!r}")
    require(file.path in paths, where, f"expected one of {', '.join(paths)}, seen {file.path!r}")
    require(file.nbytes >= 1, where, f"{file.path}: expected a positive size, seen {file.nbytes}")


def _check_factors(factors: Sequence[Factor], nbytes: int, where: str) -> None:
    for index, factor in enumerate(factors):
        what = f"{where}: factors[{index}]"
        known = ", ".join(FACTOR_DTYPES)
        require(factor.dtype in FACTOR_DTYPES, what, f"unknown dtype {factor.dtype!r}, expected one of {known}")
        check_shape(factor.shape, what)
        require(len(factor.shape) == 2, what, f"expected a matrix, seen {factor.shape}")
        inside = factor.offset >= 0 and factor.offset + factor_bytes(factor) <= nbytes
        require(inside, what, f"bytes from {factor.offset} on are not all in the file of {nbytes}")


def _check_tuned(tuned: Sequence[TunedWeight], factors: Sequence[Factor], manifest: Manifest, where: str) -> None:
    known = {weight.name: weight for weight in manifest.weights}
    for weight in tuned:
        what = f"{where}: weight {weight.name!r}"
        _check_tunable(weight, known, what)
        rows, columns = natural_shape(weight.form, known[weight.name].local_shape)
        places: dict[int, tuple[object, ...]] = {}
        for index, product in enumerate(weight.products):
            _check_product(product, factors, len(manifest.mesh), f"{what}: products[{index}]")
            held = [held.stop - held.start for held in held_slices(product, [0] * len(manifest.mesh))]
            fits = product.row + held[0] <= rows and held[1] <= columns
            require(fits, what, f"a device holds {[rows, columns]} of it, in which product {index} has no room")
            place = (product.shape, product.placements)
            same = places.setdefault(product.row, place) == place
            require(same, what, f"two products at row {product.row} are cut in different ways")


def _check_tunable(weight: TunedWeight, known: Mapping[str, Weight], where: str) -> None:
    require(weight.name in known, where, "the bundle has none of this name")
    held = known[weight.name]
    require(held.dtype in TUNED_DTYPES, where, f"products are added to floats, seen {held.dtype}")
    require(len(held.local_shape) == 2, where, f"products are added to matrices, seen {held.local_shape}")
    require(weight.form in FORMS, where, f"unknown form {weight.form!r}, expected one of {', '.join(FORMS)}")
    whole = weight.form != "swiglu" or held.local_shape[1] % (2 * TILE_SIZE) == 0
    require(whole, where, f"halves of {held.local_shape[1]} columns are not whole tiles")


def _check_product(product: Product, factors: Sequence[Factor], axes: int, where: str) -> None:
    inside = 0 <= product.up < len(factors) and 0 <= product.down < len(factors)
    require(inside, where, f"factors {product.up} and {product.down} of {len(factors)}")
    up, down = factors[product.up].shape, factors[product.down].shape
    check_shape(product.shape, where)
    require(len(product.shape) == 2, where, f"expected a matrix, seen {product.shape}")
    fit = up[1] == down[0] and down[1] == product.shape[1] and 0 <= product.first <= up[0] - product.shape[0]
    require(fit, where, f"factors {up} and {down} give no rows {product.first} on for {product.shape}")
    require(math.isfinite(product.scale), where, f"scale: expected a number, seen {product.scale}")
    require(product.row >= 0, where, f"row: expected at least 0, seen {product.row}")
    require(len(product.placements) == axes, where, f"expected a placement for each of {axes} mesh axes")
    for placement in product.placements:
        ok = placement is None or (placement.dim in (0, 1) and placement.chunk >= 1)
        require(ok, where, f"placement {placement} cuts no matrix")
