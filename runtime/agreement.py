"""What a manifest says and its programs know too: compared before anything runs, since a video takes long.

Sizes in Mochi's VAE (Genmo's `time_compressions` and `space_compressions`): a latent position is 8 x 8 pixels, and 6
frames, but the first, which is one frame. The transformer's patches are 2 x 2 latent positions.
"""

from collections.abc import Iterator, Mapping
from math import prod

from mochi_aot.artifacts.dtypes import BLOCK_DTYPES
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.limits import MAX_HOST_ELEMENTS, MAX_PIXELS, check_shape
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.artifacts.schema import Geometry, Manifest, Plain, Program, TensorSpec
from mochi_aot.artifacts.tiles import device_bytes

_SPACE, _TIME, _PATCH = 8, 6, 2
_CHANNELS = 12  # of latents, where the model's configuration is not told

Shape = list[int | None]  # None: of any size


def check_agreement(manifest: Manifest, geometry: Geometry, programs: Mapping[str, Program]) -> None:
    """Raise BundleError at the first thing in which the manifest and the programs of a geometry differ."""
    _check_sizes(geometry)
    _check_model(manifest)
    for role, program in programs.items():
        _require(program.name == role, f"its program for {role} is {program.name!r}")
    expected = _shapes(manifest, geometry)
    for role, program in programs.items():
        for name, spec in _tensors(program):
            if name in expected[role]:
                _check_host_size(f"{role}: {name}", spec)
                _check_shape(f"{role}: {name}", spec, expected[role][name])
    for role in ("encode_text", "prepare_prompt"):
        for name, spec in _tensors(programs[role]) if role in programs else ():
            if name.endswith("prompt_embeds"):
                _require(spec.dtype == manifest.dtype, f"dtype is {manifest.dtype}, and {name} is {spec.dtype}")
    if manifest.mesh_settings is not None:
        _check_links(manifest, programs)
        _check_peaks(manifest, geometry, programs)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise BundleError(problem)


def _check_sizes(geometry: Geometry) -> None:
    unit = _SPACE * _PATCH
    whole = geometry.height % unit == 0 and geometry.width % unit == 0 and geometry.frames % _TIME == 1
    _require(whole, f"height and width are no multiples of {unit}, or the frames are not {_TIME}k + 1")


def _shapes(manifest: Manifest, geometry: Geometry) -> dict[str, dict[str, Shape]]:
    """By role and name of an input or output; frames may hold rows of pixels, [F, H, W * 3]."""
    ids: Shape = [1, manifest.text_length]
    embeds: Shape = [1, manifest.text_length, _known(manifest.model, "text", "d_model")]
    step: Shape = [manifest.step_capacity]
    channels = _known(manifest.model, "dit", "in_channels") or _CHANNELS
    times = (geometry.frames - 1) // _TIME + 1
    latents: Shape = [1, channels, times, geometry.height // _SPACE, geometry.width // _SPACE]
    frames: Shape = [geometry.frames, geometry.height, geometry.width, 3]
    return {
        "encode_text": {"input_ids": ids, "attention_mask": ids, "prompt_embeds": embeds},
        "prepare_prompt": {name: embeds if name.endswith("embeds") else ids for name in ROLES["prepare_prompt"].inputs},
        "prepare_steps": dict.fromkeys(ROLES["prepare_steps"].inputs, step),
        "denoise": {"latents": latents, "step": [1]},
        "decode": {"latents": latents, "frames": frames},
        "encode": {"frames": frames, "latents": latents},
    }


def _tensors(program: Program) -> Iterator[tuple[str, TensorSpec]]:
    yield from ((item.name, item.spec) for item in program.inputs)
    yield from ((item.name, item.spec) for item in program.outputs)


def _check_shape(where: str, spec: TensorSpec, expected: Shape) -> None:
    seen = list(spec.shape)
    if len(seen) == len(expected) - 1 and all(expected[-2:]):  # rows of pixels
        expected = [*expected[:-2], prod(size or 0 for size in expected[-2:])]
    fits = len(seen) == len(expected) and all(e in (None, s) for s, e in zip(seen, expected, strict=True))
    _require(fits, f"{where} has the shape {seen}, and the manifest says {expected}")


def _check_host_size(where: str, spec: TensorSpec) -> None:
    """Check that the host has room for what it makes; frames have the geometry's limits."""
    for shape in (spec.shape, spec.local_shape):
        check_shape(shape, where, 3 * MAX_PIXELS if where.endswith("frames") else MAX_HOST_ELEMENTS)


def _known(model: Mapping[str, Plain], part: str, field: str) -> int | None:
    """Return a size of the model's configuration, if it is told."""
    sizes = model.get(part)
    value = sizes.get(field) if isinstance(sizes, dict) else None
    return value if isinstance(value, int) else None


def _check_model(manifest: Manifest) -> None:
    """Check the sizes that the manifest has twice."""
    model = manifest.model
    length = model.get("text_length", manifest.text_length)
    _require(length == manifest.text_length, f"text_length is {manifest.text_length}, and the model's is {length}")
    for (part, field), (other, same) in (
        (("dit", "in_channels"), ("vae", "latent_channels")),
        (("dit", "caption_width"), ("text", "d_model")),
    ):
        first, second = _known(model, part, field), _known(model, other, same)
        _require(first == second, f"model: {part}.{field} is {first}, and {other}.{same} is {second}")
    vae = model.get("vae")
    for field, expected in (("space_factors", _SPACE), ("time_factors", _TIME)):
        factors = vae.get(field) if isinstance(vae, dict) else None
        if isinstance(factors, list):
            seen = prod(factor for factor in factors if isinstance(factor, int))
            _require(seen == expected, f"model: vae.{field} make {seen}, Mochi's make {expected}")


def _check_links(manifest: Manifest, programs: Mapping[str, Program]) -> None:
    """Check that the fabric is there for programs that send, and that a denoising step rounds what it sends if
    links_dtype says so."""
    assert manifest.mesh_settings is not None
    senders = [role for role, program in programs.items() if program.stats.collectives]
    fabric = manifest.mesh_settings.fabric
    _require(not senders or fabric != "none", f"fabric is none, and {', '.join(senders)} send between chips")
    if "denoise" not in senders:
        return
    rounded = any(i.attrs.get("dtype") in BLOCK_DTYPES for i in programs["denoise"].instructions)
    problem = f"links_dtype is {manifest.links_dtype}, and denoise sends {'rounded' if rounded else 'whole'} numbers"
    _require(rounded == (manifest.links_dtype in BLOCK_DTYPES), problem)


def _check_peaks(manifest: Manifest, geometry: Geometry, programs: Mapping[str, Program]) -> None:
    """No program takes less memory than its weights do."""
    weights = {weight.name: weight for weight in manifest.weights}
    for role, peak in geometry.dram_peaks.items():
        held = [weights[weight.name] for weight in programs[role].weights]
        least = sum(device_bytes(weight.dtype, weight.local_shape, "row_major") for weight in held)  # without padding
        _require(peak >= least, f"dram_peaks: {role} takes {peak} bytes, and its weights {least:.0f}")
