"""A manifest that says something else than it was written with is refused before anything runs; torch's bundles here,
those for chips in test_ttnn_bundle.py."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.envelope import pack
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MANIFEST_PATH
from mochi_aot.artifacts.schema import Manifest
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.tools.commands import compile as compile_tool
from mochi_aot.tools.commands import inspect, verify
from mochi_aot.tools.commands import run as run_tool
from tests.tools.commands.mutations import FREE, accepted, refusal, unknown

pytestmark = pytest.mark.slow  # a compile takes seconds


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two geometries of the tiny preset on 1x2."""
    folder = tmp_path_factory.mktemp("manifest")
    write_checkpoint(folder / "mochi", TINY, "diffusers")
    words = ["--checkpoint", folder / "mochi", "--mesh", "1x2", "--target", "torch", "-o", folder / "b"]
    sizes = ["--geometry", "32x64x13", "--geometry", "16x16x7"]
    result = CliRunner().invoke(compile_tool.main, [*map(str, words), *sizes])
    assert result.exit_code == 0, result.output
    return Bundle.open(folder / "b")


def test_every_field_but_those_that_are_free(whole: Bundle) -> None:
    assert refusal(whole, whole.manifest) is None
    found = accepted(whole)
    assert unknown(found, FREE) == {}
    for pattern in FREE:  # none of them stands there for nothing
        assert any(re.fullmatch(pattern, field) for field in found), pattern


def test_every_bit_of_the_file(whole: Bundle) -> None:
    """Of the first and last 2000 bytes, and of one byte in 50 between."""
    path = whole.path / MANIFEST_PATH
    data = path.read_bytes()
    places = [*range(2000), *range(2000, len(data) - 2000, 50), *range(len(data) - 2000, len(data))]
    try:
        for place in places:
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
            with pytest.raises(BundleError):
                Bundle.open(whole.path)
    finally:
        path.write_bytes(data)


@pytest.fixture
def rewritten(whole: Bundle) -> object:
    """Writes another manifest into the bundle, sealed as it should be, until the test ends."""
    path = whole.path / MANIFEST_PATH
    data = path.read_bytes()
    yield lambda manifest: path.write_bytes(pack(MANIFEST_MAGIC, manifest, "m"))
    path.write_bytes(data)


def run(bundle: Bundle, folder: Path) -> Result:
    words = [str(bundle.path), "--prompt", "a fox", "--steps", "1", "-o", str(folder / "out.mp4")]
    return CliRunner().invoke(run_tool.main, words)


def other_geometry(manifest: Manifest, denoise: int | None = None, **sizes: int) -> Manifest:
    """With other sizes of the first geometry, or another program of its."""
    first, second = manifest.geometries
    programs = {**first.programs, "denoise": first.programs["denoise"] if denoise is None else denoise}
    return replace(manifest, geometries=[replace(first, programs=programs, **sizes), second])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: other_geometry(m, height=48), "shape [1, 12, 3, 4, 8], and the manifest says [1, 12, 3, 6, 8]"),
        (lambda m: other_geometry(m, height=33), "height and width are no multiples of 16"),
        (lambda m: other_geometry(m, frames=19), "shape [1, 12, 3, 4, 8], and the manifest says [1, 12, 4, 4, 8]"),
        (lambda m: replace(m, text_length=257), "text_length is 257, and the model's is 256"),
        (lambda m: replace(m, step_capacity=65), "prepare_steps: sigma has the shape [64], and the manifest says [65]"),
        (lambda m: replace(m, mesh=[2, 1]), "is for the mesh [1, 2], and the bundle for [2, 1]"),
        (lambda m: replace(m, dtype="float32"), "links_dtype: expected float32 as dtype is, seen bfloat16"),
        (
            lambda m: other_geometry(m, denoise=m.geometries[1].programs["denoise"]),
            "denoise: latents has the shape [1, 12, 2, 2, 2], and the manifest says [1, 12, 3, 4, 8]",
        ),
    ],
)  # fmt: skip
def test_it_is_one_line_before_anything_runs(whole, rewritten, tmp_path, change, message) -> None:
    rewritten(change(whole.manifest))
    for result in (
        run(whole, tmp_path),
        CliRunner().invoke(verify.main, [str(whole.path)]),
        CliRunner().invoke(inspect.main, [str(whole.path), "--verify"]),
    ):
        assert result.exit_code == 3
        error = result.stderr.splitlines()[-1]
        assert error.startswith("error: ") and message in error, result.stderr
    assert not list(tmp_path.iterdir())
