"""Deltas: what they make of a base, against numpy; what is refused of them, field by field; how they are written."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mochi_aot.artifacts import Bundle, BundleError, BundleWriter
from mochi_aot.artifacts.delta import OpenDelta, StyledBundle, with_delta
from mochi_aot.artifacts.delta_checks import check_delta, check_fits
from mochi_aot.artifacts.delta_schema import Delta, Factor, LoraRecord, Product, TunedWeight
from mochi_aot.artifacts.delta_writer import write_delta
from mochi_aot.artifacts.errors import BundleExistsError
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.schema import Geometry, Placement, Weight

RANDOM = np.random.default_rng(0)
Q, K = (RANDOM.standard_normal(shape).astype(np.float32) for shape in ((6, 4), (5, 4)))
OTHER = np.arange(4, dtype=np.float32)
UP = RANDOM.standard_normal((11, 2)).astype(np.float32)  # of q's six rows, then k's five
DOWN = RANDOM.standard_normal((2, 4)).astype(np.float32)
HALF_UP = np.array([[0x3F80], [0x4000], [0], [0xBF80], [0], [0]], np.uint16)  # bfloat16 1, 2, 0, -1, 0, 0
HALF_DOWN = np.array([[1, 0.5, -2, 0]], np.float16)
SCALE, HALF_SCALE = 0.5, -0.25
FACTORS = [UP, DOWN, HALF_UP, HALF_DOWN]
DATA = b"".join(array.tobytes() for array in FACTORS)
CUTS: list[Placement | None] = [
    Placement(0, 3),
    Placement(1, 2),
]  # over rows and columns of the mesh
# What is added to the whole of each, by the definition.
ADDED_Q = SCALE * (UP[:6] @ DOWN) + HALF_SCALE * np.outer([1, 2, 0, -1, 0, 0], HALF_DOWN[0].astype(np.float32))
ADDED_K = SCALE * (UP[6:] @ DOWN)


def pieces(q: np.ndarray, k: np.ndarray) -> list[np.ndarray]:
    """What the devices of 2x2 hold of q above k, each cut into halves both ways; k's sixth row is padding."""
    padded = np.vstack([k, np.zeros((1, 4), np.float32)])
    halves = [(slice(row, row + 3), slice(column, column + 2)) for row in (0, 3) for column in (0, 2)]
    return [np.vstack([q[part], padded[part]]).astype(np.float32) for part in halves]


def record(**changes: Any) -> LoraRecord:
    shapes, offsets = [array.shape for array in FACTORS], np.cumsum([0, *(array.nbytes for array in FACTORS)])
    dtypes = ["float32", "float32", "bfloat16", "float16"]
    factors = [Factor(d, list(s), int(o)) for d, s, o in zip(dtypes, shapes, offsets, strict=False)]
    products = [
        Product(0, 1, SCALE, 0, 0, [6, 4], CUTS),
        Product(0, 1, SCALE, 6, 3, [5, 4], CUTS),
        Product(2, 3, HALF_SCALE, 0, 0, [6, 4], CUTS),
    ]
    return LoraRecord(hash_bytes(DATA), factors, [TunedWeight("qk", "plain qk", "plain", products)])


def write(
    path: Path,
    qk: list[np.ndarray],
    other: np.ndarray = OTHER,
    source: str = "plain qk",
    loras: LoraRecord | None = None,
    **more: Any,
) -> Bundle:
    with BundleWriter(path) as writer:
        writer.add_weight(Weight("qk", "float32", [6, 2], [writer.add_shard(piece) for piece in qk], None, source))
        writer.add_weight(Weight("same", "float32", [2], [writer.add_shard(np.ones(2, np.float32))] * 4, None, "same"))
        writer.add_weight(Weight("other", "float32", [4], [writer.add_shard(other)] * 4, None, "other"))
        if loras is not None:
            writer.add_loras(loras, DATA)
        writer.finish(**{**COMMON, **more})
    return Bundle.open(path)


COMMON: dict[str, Any] = {
    **{"target": "torch", "mesh": [2, 2], "dtype": "float32", "step_capacity": 1, "text_length": 1, "model": {}},
    **{
        "checkpoint": {"layout": "genmo"},
        "versions": {},
        "geometries": [Geometry(16, 16, 7, {})],
        "created_by": "test",
    },
}


@pytest.fixture
def base(tmp_path: Path) -> Bundle:
    return write(tmp_path / "base", pieces(Q, K))


@pytest.fixture
def style(tmp_path: Path) -> Bundle:
    tuned = pieces(Q + ADDED_Q, K + ADDED_K)
    return write(tmp_path / "style", tuned, OTHER + 1, "tuned qk", record(), checkpoint={"lora": "red:1"})


@pytest.fixture
def delta(base: Bundle, style: Bundle, tmp_path: Path) -> Path:
    write_delta(base, style, tmp_path / "delta", False, "test")
    return tmp_path / "delta"


def held(bundle: Bundle, name: str) -> list[np.ndarray]:
    """What each device holds, by a bundle's shards and what is added to them."""
    weight = bundle.weights[name]
    found = [np.frombuffer(bundle.shard_bytes(i), np.float32).reshape(weight.local_shape) for i in weight.shards]
    if name not in bundle.tuned:
        return found
    return [piece + bundle.addition(name, divmod(device, 2)) for device, piece in enumerate(found)]


def test_a_base_with_a_delta_holds_what_the_style_holds(base: Bundle, style: Bundle, delta: Path) -> None:
    styled = with_delta(base, delta)
    for seen, expected in zip(held(styled, "qk"), pieces(Q + ADDED_Q, K + ADDED_K), strict=True):
        assert np.allclose(seen, expected, rtol=0, atol=1e-6)  # sums of float32 near one, in another order
    assert all(np.array_equal(seen, OTHER + 1) for seen in held(styled, "other"))
    assert styled.weights["same"] == base.weights["same"] and styled.manifest.checkpoint == {"lora": "red:1"}
    opened = OpenDelta.open(delta)
    opened.verify()
    assert (opened.delta.base, opened.delta.style) == (base.id, style.id)
    assert opened.id == styled.id == sha256((delta / "delta.msgpack").read_bytes()).hexdigest()
    for name in base.weights:  # as the reader does before a program uses them
        for part in styled.parts(name):
            styled.check_part(part)
    styled.check_unchanged()
    assert with_delta(base, None) is base


def test_it_holds_factors_and_whole_weights_and_nothing_else(delta: Path) -> None:
    header = (delta / "delta.msgpack").stat().st_size
    sizes = {path.parent.name: path.stat().st_size for path in delta.rglob("*") if path.is_file()}
    assert sizes == {"delta": header, "loras": len(DATA), "weights": OTHER.nbytes}


def test_what_differs_between_styles(base: Bundle, delta: Path, tmp_path: Path) -> None:
    styled = with_delta(base, delta)
    assert [name for name in base.weights if base.content(name) != styled.content(name)] == ["qk", "other"]
    doubled = [replace(p, scale=2 * p.scale) for p in record().weights[0].products]
    again = replace(record(), weights=[replace(record().weights[0], products=doubled)])
    strong = write(tmp_path / "strong", pieces(Q + 2 * ADDED_Q, K + 2 * ADDED_K), OTHER + 1, "x", again)
    write_delta(base, strong, tmp_path / "strong.delta", False, "test")
    other = with_delta(base, tmp_path / "strong.delta")
    assert [name for name in base.weights if other.content(name) != styled.content(name)] == ["qk"]


def test_a_weight_of_another_base_is_held_whole(base: Bundle, tmp_path: Path) -> None:
    """Products were added to what a weight was of another checkpoint: they say nothing of this base's."""
    tuned = pieces(Q + 1 + ADDED_Q, K)
    style = write(tmp_path / "style", tuned, OTHER, "tuned", replace(record(), weights=[
        replace(record().weights[0], source="of another checkpoint")]))  # fmt: skip
    written = write_delta(base, style, tmp_path / "delta", False, "test")
    assert (written.tuned, written.replaced) == (0, 1)
    styled = with_delta(base, tmp_path / "delta")
    assert all(np.array_equal(a, b) for a, b in zip(held(styled, "qk"), tuned, strict=True))
    assert not (tmp_path / "delta/loras").exists()


def test_what_is_no_pair(base: Bundle, style: Bundle, delta: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"base has the same weights as .*base: there is nothing for a delta to hold"):
        write_delta(base, base, tmp_path / "out", False, "test")
    longer = write(tmp_path / "longer", pieces(Q, K), OTHER + 1, text_length=2)
    with pytest.raises(BundleError, match="differ in text_length, 1 and 2: compile both with the same options"):
        write_delta(base, longer, tmp_path / "out", False, "test")
    other = write(tmp_path / "other", pieces(Q, K), OTHER + 1, geometries=[Geometry(32, 16, 7, {})])
    with pytest.raises(BundleError, match="have different programs or geometries"):
        write_delta(base, other, tmp_path / "out", False, "test")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BundleError, match=f"is for the bundle {base.id}, and .*style is {style.id}: "):
        with_delta(style, delta)
    with pytest.raises(BundleError, match=r"base has no delta.msgpack; expected a delta, as mochi-bundle delta writes"):
        OpenDelta.open(base.path)
    with pytest.raises(BundleError, match="none does not exist; expected a delta"):
        OpenDelta.open(tmp_path / "none")


def test_what_is_there_stays(base: Bundle, style: Bundle, delta: Path) -> None:
    with pytest.raises(BundleExistsError, match="exists; choose another path, or use --force to replace a delta"):
        write_delta(base, style, delta, False, "test")
    with pytest.raises(BundleExistsError, match="exists and is no delta, so --force does not replace it"):
        write_delta(base, style, base.path, True, "test")
    before = OpenDelta.open(delta).id
    assert write_delta(base, style, delta, True, "test").id == before


def damaged(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_damage_is_told(base: Bundle, delta: Path, tmp_path: Path) -> None:
    for name, change, problem in (
        ("delta.msgpack", flipped, "do not match the SHA-256 at their end"),
        ("delta.msgpack", lambda data: data[:40], "40 bytes that do not match"),
        ("loras/*.bin", flipped, "the bytes do not match their hash; copy the delta or make it again"),
        ("loras/*.bin", lambda data: data[:-1], f"expected {len(DATA)} bytes, seen {len(DATA) - 1}"),
        ("weights/*.bin", lambda data: data + b"x", "expected 16 bytes, seen 17"),
    ):
        copy = tmp_path / "copy"
        shutil.copytree(delta, copy)
        damaged(next(copy.glob(name)), change)
        with pytest.raises(BundleError, match=problem):
            OpenDelta.open(copy)
        shutil.rmtree(copy)
    damaged(next(delta.glob("weights/*.bin")), flipped)
    styled = with_delta(base, delta)  # a weight is hashed before it is used, as the bundle's are
    with pytest.raises(BundleError, match=r"delta/weights/.* do not match their hash"):
        styled.check_part(styled.parts("other")[0])
    with pytest.raises(BundleError, match="do not match their hash"):
        OpenDelta.open(delta).verify()
    next(delta.glob("weights/*.bin")).unlink()
    with pytest.raises(BundleError, match="is missing, expected 16 bytes"):
        OpenDelta.open(delta)


def product(**changes: Any) -> Callable[[Delta], Delta]:
    def change(delta: Delta) -> Delta:
        first, *rest = delta.tuned[0].products
        return replace(delta, tuned=[replace(delta.tuned[0], products=[replace(first, **changes), *rest])])

    return change


def tuned(**changes: Any) -> Callable[[Delta], Delta]:
    return lambda delta: replace(delta, tuned=[replace(delta.tuned[0], **changes)])


def factor(**changes: Any) -> Callable[[Delta], Delta]:
    return lambda delta: replace(delta, factors=[replace(delta.factors[0], **changes), *delta.factors[1:]])


def weight(**changes: Any) -> Callable[[Delta], Delta]:
    return lambda delta: replace(delta, weights=[replace(delta.weights[0], **changes)])


HOSTILE: list[tuple[Callable[[Delta], Delta], str]] = [
    (lambda delta: replace(delta, base="x"), "base: expected the id of a bundle, seen 'x'"),
    (lambda delta: replace(delta, tuned=[], weights=[]), "it changes no weight"),
    (lambda delta: replace(delta, tuned=delta.tuned * 2), "weight 'qk' occurs twice"),
    (lambda delta: replace(delta, files=delta.files[1:]), "expected a file of factors if there are any, seen 0"),
    (lambda delta: replace(delta, files=[replace(delta.files[0], path="loras/../../x")]), "expected one of loras/"),
    (lambda delta: replace(delta, weights=[]), "shards \\[0\\] are of no weight"),
    (factor(dtype="int8"), r"factors\[0\]: unknown dtype 'int8'"),
    (factor(shape=[11, 0]), "expected positive dimensions"),
    (factor(shape=[22]), r"expected a matrix, seen \[22\]"),
    (factor(offset=len(DATA) - 8), "are not all in the file"),
    (factor(offset=-1), "are not all in the file"),
    (factor(shape=[1 << 30, 1 << 30]), "expected at most"),
    (tuned(name="none"), "weight 'none': the bundle has none of this name"),
    (tuned(name="same"), r"products are added to matrices, seen \[2\]"),
    (tuned(form="folded"), "unknown form 'folded'"),
    (tuned(form="swiglu"), "halves of 2 columns are not whole tiles"),
    (product(up=9), r"products\[0\]: factors 9 and 1 of 4"),
    (product(up=-1), "factors -1 and 1 of 4"),
    (product(down=3), "give no rows 0 on for"),
    (product(first=6), r"factors \[11, 2\] and \[2, 4\] give no rows 6 on for \[6, 4\]"),
    (product(first=-1), "give no rows -1 on"),
    (product(scale=math.inf), "scale: expected a number, seen inf"),
    (product(row=4), "in which product 0 has no room"),
    (product(row=-1), "row: expected at least 0"),
    (product(placements=[None, None]), "in which product 0 has no room"),
    (product(placements=[None]), "expected a placement for each of 2 mesh axes"),
    (product(placements=[Placement(2, 3), None]), "cuts no matrix"),
    (product(placements=[Placement(0, 0), None]), "cuts no matrix"),
    (product(placements=[Placement(0, 2), Placement(1, 2)]), "two products at row 0 are cut in different ways"),
    (weight(name="none"), "weight 'none': the base has none of this name"),
    (weight(shards=[0, 0, 0]), "expected a shard for each of 2x2 devices, seen 3"),
    (weight(dtype="int32"), r"expected float32 \[4\], seen int32 \[4\]"),
    (weight(local_shape=[2, 2]), r"expected float32 \[4\], seen float32 \[2, 2\]"),
]


@pytest.mark.parametrize(("change", "problem"), HOSTILE, ids=[problem[:30] for _, problem in HOSTILE])
def test_what_is_refused(base: Bundle, delta: Path, change: Callable[[Delta], Delta], problem: str) -> None:
    good = OpenDelta.open(delta).delta
    check_delta(good, "delta")
    check_fits(good, base.manifest, "delta")
    with pytest.raises(BundleError, match=problem):
        check_delta(change(good), "delta")
        check_fits(change(good), base.manifest, "delta")


def test_a_record_is_checked_when_it_is_written_and_read(tmp_path: Path, style: Bundle) -> None:
    assert style.loras() == record() and write(tmp_path / "plain", pieces(Q, K)).loras() is None
    off = replace(record().weights[0].products[0], up=9)
    wrong = replace(record(), weights=[replace(record().weights[0], products=[off])])
    with pytest.raises(BundleError, match=r"weight 'qk': products\[0\]: factors 9 and 1 of 4"):
        write(tmp_path / "wrong", pieces(Q, K), loras=wrong)
    assert not (tmp_path / "wrong").exists()
    damaged(next(style.path.glob("loras/*.msgpack")), flipped)
    with pytest.raises(BundleError, match="expected BLAKE3"):
        Bundle.open(style.path).loras()


def test_a_styled_bundle_maps_the_files_of_its_base_once(base: Bundle, delta: Path) -> None:
    first, second = (StyledBundle(base, OpenDelta.open(delta)) for _ in range(2))
    assert first.file_bytes(0).obj is second.file_bytes(0).obj is base.file_bytes(0).obj
