"""What must hold in a manifest beyond the types of its fields. The writer and the reader both run it."""

import re
from collections.abc import Callable, Iterable, Sequence

from mochi_aot.artifacts.dtypes import BLOCK_DTYPES, DTYPES, NARROW_DTYPES, tensor_bytes
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.integrity import hash_shards
from mochi_aot.artifacts.layout import (
    ALIGNMENT,
    ARCHITECTURES,
    FABRICS,
    FORMAT_VERSION,
    HASH_HEX,
    HOST_DTYPES,
    MAX_NOTICE_BYTES,
    MAX_NOTICES,
    NOTICE_FOLDER,
    TOKENIZER_PATH,
    factor_path,
    kernel_path,
    lora_path,
    notice_path,
    program_path,
    tensor_path,
    weight_path,
)
from mochi_aot.artifacts.limits import (
    MAX_DEVICES,
    MAX_PIXELS,
    MAX_STEP_CAPACITY,
    MAX_TEXT_LENGTH,
    check_product,
    check_range,
    check_shape,
)
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.artifacts.schema import (
    File,
    Geometry,
    Kernels,
    Manifest,
    MeshSettings,
    Program,
    Shard,
    TensorSpec,
    Weight,
)

_PATHS = (program_path, weight_path, tensor_path, kernel_path, notice_path, factor_path, lora_path)
TARGET = re.compile(r"[a-z][a-z0-9_]*")


def require(condition: bool, where: str, problem: str) -> None:
    """Raise BundleError with "where: problem" unless the condition holds."""
    if not condition:
        raise BundleError(f"{where}: {problem}")


def require_unique(values: Iterable[object], where: str, what: str) -> None:
    """Raise BundleError naming the first value that occurs twice."""
    seen = set()
    for value in values:
        require(value not in seen, where, f"{what} {value!r} occurs twice")
        seen.add(value)


def require_shape(shape: list[int], where: str) -> None:
    """Raise BundleError unless every dimension is 1 or more, within the limits; [] is a scalar."""
    check_shape(shape, where)


def require_dtype(dtype: str, where: str) -> None:
    """Raise BundleError unless the dtype is one that devices hold."""
    known = (*DTYPES, *BLOCK_DTYPES)
    require(dtype in known, where, f"unknown dtype {dtype!r}, expected one of {', '.join(known)}")


def tensors(program: Program) -> list[tuple[str, TensorSpec]]:
    """Name and spec of each input and output."""
    inputs = [(value.name, value.spec) for value in program.inputs]
    return inputs + [(value.name, value.spec) for value in program.outputs]


def check_manifest(manifest: Manifest, where: str) -> None:
    """Raise BundleError at the first thing that does not fit; `where` begins the message."""
    _check_header(manifest, where)
    for index, file in enumerate(manifest.files):
        _check_file(file, f"{where}: files[{index}]")
    require_unique((file.path for file in manifest.files), where, "file")
    require_unique((weight.name for weight in manifest.weights), where, "weight")
    _check_shards(manifest.shards, manifest.files, where)
    for weight in manifest.weights:
        what = f"{where}: weight {weight.name!r}"
        check_weight(weight, manifest.mesh, manifest.shards, manifest.files, what)
    require(len(manifest.geometries) > 0, where, "expected a geometry, seen none")
    require_unique(((g.height, g.width, g.frames) for g in manifest.geometries), where, "geometry")
    for geometry in manifest.geometries:
        _check_geometry(geometry, manifest, f"{where}: geometry {geometry}")
    if manifest.mesh_settings is not None:
        _check_mesh_settings(manifest.mesh_settings, f"{where}: mesh_settings")
    if manifest.kernels is not None:
        _check_kernels(manifest.kernels, manifest.files, f"{where}: kernels")
    _check_notices(manifest, where)
    _check_loras(manifest.files, where)
    _check_target(manifest, where)
    _check_whole_lists(manifest.shards, manifest.files, manifest.weights, where)


def check_shards_of_files(shards: list[Shard], files: list[File], weights: list[Weight], where: str) -> None:
    """Raise BundleError unless shards lie in the files, apart from each other, as the files' hashes say, and each of
    them and each tensor file is a weight's."""
    _check_shards(shards, files, where)
    _check_whole_lists(shards, files, weights, where)


def check_program_fits(program: Program, manifest: Manifest, where: str) -> None:
    """Raise BundleError unless the program's mesh, weights and placements are those of this bundle."""
    require(program.mesh == manifest.mesh, where, f"is for the mesh {program.mesh}, and the bundle for {manifest.mesh}")
    weights = {weight.name: weight for weight in manifest.weights}
    for weight in program.weights:
        held = weights.get(weight.name)
        require(held is not None, where, f"reads the weight {weight.name!r}, which the bundle does not hold")
        assert held is not None
        read, seen = ((w.dtype, w.local_shape) for w in (weight, held))
        problem = f"reads the weight {weight.name!r} as {read[0]} {read[1]}, and the bundle holds {seen[0]} {seen[1]}"
        require(read == seen, where, problem)
    for name, spec in tensors(program):
        plain = spec.dtype not in NARROW_DTYPES or (spec.dtype in BLOCK_DTYPES and manifest.target == "ttnn")
        require(plain, f"{where}: {name!r}", f"{spec.dtype} in a bundle for {manifest.target}")
        _check_placements(spec, manifest.mesh, f"{where}: {name!r}")


def _check_header(manifest: Manifest, where: str) -> None:
    require(manifest.format_version == FORMAT_VERSION, where, f"format_version differs from {FORMAT_VERSION}")
    require(TARGET.fullmatch(manifest.target) is not None, where, f"expected a target, seen {manifest.target!r}")
    mesh_ok = len(manifest.mesh) == 2 and min(manifest.mesh) >= 1
    require(mesh_ok, where, f"mesh: expected [rows, columns], seen {manifest.mesh[:3]}")
    check_product(manifest.mesh, MAX_DEVICES, f"{where}: mesh", "devices")
    for dtype in (manifest.dtype, manifest.weights_dtype, manifest.links_dtype):
        require_dtype(dtype, where)
    check_range(manifest.step_capacity, MAX_STEP_CAPACITY, f"{where}: step_capacity")
    check_range(manifest.text_length, MAX_TEXT_LENGTH, f"{where}: text_length")


def _check_target(manifest: Manifest, where: str) -> None:
    """Check what only bundles for ttnn have, and what the weights tell of the dtypes."""
    chips = manifest.target == "ttnn"
    for field, value in (("mesh_settings", manifest.mesh_settings), ("ttnn", manifest.ttnn or None)):
        seen = "nothing" if value is None else repr(value)
        require((value is not None) == chips, where, f"{field}: seen {seen} in a bundle for {manifest.target}")
    if not chips:
        require(manifest.kernels is None, where, f"kernels: seen some in a bundle for {manifest.target}")
        seen = manifest.links_dtype
        require(seen == manifest.dtype, where, f"links_dtype: expected {manifest.dtype} as dtype is, seen {seen}")
        for weight in manifest.weights:
            problem = f"weight {weight.name!r}: expected shards in a bundle for {manifest.target}, seen a file"
            require(weight.file is None, where, problem)
        _check_weights_dtype(manifest, HOST_DTYPES if manifest.dtype == "bfloat16" else (manifest.dtype,), where)
        return
    known = (manifest.dtype, *BLOCK_DTYPES)
    seen = manifest.links_dtype
    require(seen in known, where, f"links_dtype: expected one of {', '.join(known)}, seen {seen}")
    _check_weights_dtype(manifest, known, where)
    if manifest.kernels is not None:
        seen = manifest.kernels.ttnn
        require(seen == manifest.ttnn, where, f"ttnn: seen {manifest.ttnn!r}, and kernels for {seen!r}")


def _check_weights_dtype(manifest: Manifest, known: Sequence[str], where: str) -> None:
    """Check that there are weights of the dtype that the manifest says matrices have, and of no other narrow one."""
    seen = manifest.weights_dtype
    require(seen in known, where, f"weights_dtype: expected one of {', '.join(known)}, seen {seen}")
    held = {weight.dtype for weight in manifest.weights} & {*NARROW_DTYPES}
    agree = not manifest.weights or held == {seen} & {*NARROW_DTYPES}
    require(agree, where, f"weights_dtype: seen {seen}, and weights of {sorted(held) or 'other dtypes only'}")


def _check_file(file: File, where: str) -> None:
    require(HASH_HEX.fullmatch(file.blake3) is not None, where, f"expected BLAKE3 in hex, seen {file.blake3!r}")
    # Only these, spelt exactly so: no path can lead out of the bundle.
    named = (place(file.blake3) for place in _PATHS)
    paths = (*named, TOKENIZER_PATH)
    require(file.path in paths, where, f"expected one of {', '.join(paths)}, seen {file.path!r}")
    require(file.nbytes >= 1, where, f"{file.path}: expected a positive size, seen {file.nbytes}")


def _check_shards(shards: list[Shard], files: list[File], where: str) -> None:
    for index, shard in enumerate(shards):
        _check_shard(shard, files, f"{where}: shards[{index}]")
    require_unique((shard.blake3 for shard in shards), where, "shard")
    ends: dict[int, int] = {}
    for shard in sorted(shards, key=lambda shard: (shard.file, shard.offset)):
        clear = shard.offset >= ends.get(shard.file, 0)
        require(clear, where, f"two shards overlap at byte {shard.offset} of {files[shard.file].path}")
        ends[shard.file] = shard.offset + shard.nbytes


def _check_whole_lists(shards: list[Shard], files: list[File], weights: list[Weight], where: str) -> None:
    """Check that the hash of a file of shards is that of their list, that no other shards are in it, and that each
    shard and each tensor file is a weight's."""
    listed: dict[int, list[Shard]] = {}
    for shard in shards:
        listed.setdefault(shard.file, []).append(shard)
    for index, file in enumerate(files):
        if file.path == weight_path(file.blake3):
            held = sorted(listed.get(index, []), key=lambda shard: shard.offset)
            same = hash_shards(held) == file.blake3
            require(same, where, f"the shards of {file.path} are others than its hash says")
    used = {index for weight in weights for index in weight.shards}
    unused = sorted({*range(len(shards))} - used)
    require(not unused, where, f"shards {unused[:8]} are of no weight")
    taken = {weight.file for weight in weights}
    for index, file in enumerate(files):
        spare = file.path == tensor_path(file.blake3) and index not in taken
        require(not spare, where, f"{file.path} is of no weight")


def _check_shard(shard: Shard, files: list[File], where: str) -> None:
    require(HASH_HEX.fullmatch(shard.blake3) is not None, where, f"expected BLAKE3 in hex, seen {shard.blake3!r}")
    file = _file_at(weight_path, shard.file, files, where)
    aligned = shard.offset >= 0 and shard.offset % ALIGNMENT == 0
    require(aligned, where, f"offset: expected a multiple of {ALIGNMENT}, seen {shard.offset}")
    require(shard.nbytes >= 1, where, f"expected a positive size, seen {shard.nbytes}")
    end = shard.offset + shard.nbytes
    require(end <= file.nbytes, where, f"ends at byte {end} of {file.path}, which has {file.nbytes}")


def check_weight(weight: Weight, mesh: list[int], shards: list[Shard], files: list[File], where: str) -> None:
    """Raise BundleError unless a weight has a piece of its size for each device of a mesh, or a tensor file."""
    require(weight.name != "", where, "expected a name")
    require_dtype(weight.dtype, where)
    require_shape(weight.local_shape, where)
    if weight.file is not None:
        _file_at(tensor_path, weight.file, files, where)
        require(not weight.shards, where, f"expected a file or shards, seen both, {weight.file} and {weight.shards}")
        return
    dense = weight.dtype in DTYPES
    require(dense, where, f"expected a tensor file for {weight.dtype}, which no shard can hold, seen shards")
    rows, columns = mesh
    count = len(weight.shards)
    require(count == rows * columns, where, f"expected a shard for each of {rows}x{columns} devices, seen {count}")
    expected = tensor_bytes(weight.dtype, weight.local_shape)
    for index in set(weight.shards):
        require(0 <= index < len(shards), where, f"shard {index} of {len(shards)}")
        seen = shards[index].nbytes
        what = f"{weight.dtype} {weight.local_shape}"
        require(seen == expected, where, f"expected {expected} bytes for {what}, seen {seen} in shard {index}")


def _check_geometry(geometry: Geometry, manifest: Manifest, where: str) -> None:
    sizes = (geometry.height, geometry.width, geometry.frames)
    require(min(sizes) >= 1, where, "expected positive sizes")
    check_product(sizes, MAX_PIXELS, where, "pixels")
    for role, index in geometry.programs.items():
        require(role in ROLES, where, f"unknown role {role!r}, expected one of {', '.join(ROLES)}")
        _file_at(program_path, index, manifest.files, f"{where}: {role}")
    for role, peak in geometry.dram_peaks.items():
        require(role in geometry.programs, where, f"dram_peaks: {role!r} is none of its programs")
        require(peak >= 0, where, f"dram_peaks: {role}: expected bytes, seen {peak}")


def _check_mesh_settings(settings: MeshSettings, where: str) -> None:
    chips = ", ".join(ARCHITECTURES)
    require(settings.arch in ARCHITECTURES, where, f"unknown arch {settings.arch!r}, expected one of {chips}")
    known = ", ".join(FABRICS)
    require(settings.fabric in FABRICS, where, f"unknown fabric {settings.fabric!r}, expected one of {known}")
    for name in ("l1_small_bytes", "trace_bytes"):
        value = getattr(settings, name)
        require(value >= 0, where, f"{name}: expected at least 0, seen {value}")


def _check_kernels(kernels: Kernels, files: list[File], where: str) -> None:
    _file_at(kernel_path, kernels.file, files, where)
    require(kernels.count >= 1, where, f"count: expected at least 1, seen {kernels.count}")
    require(len(kernels.build_keys) > 0, where, "build_keys: expected at least one, seen none")


def _check_notices(manifest: Manifest, where: str) -> None:
    count = len(manifest.notices)
    require(count <= MAX_NOTICES, where, f"notices: expected at most {MAX_NOTICES}, seen {count}")
    for name, index in manifest.notices.items():
        file = _file_at(notice_path, index, manifest.files, f"{where}: notices[{name!r}]")
        require(file.nbytes <= MAX_NOTICE_BYTES, where, f"notices[{name!r}]: {file.nbytes} bytes are too many")
    named = {*manifest.notices.values()}
    for index, file in enumerate(manifest.files):
        spare = file.path.startswith(f"{NOTICE_FOLDER}/") and index not in named
        require(not spare, where, f"{file.path} is no notice's")


def _check_loras(files: list[File], where: str) -> None:
    records, factors = (sum(file.path == path(file.blake3) for file in files) for path in (lora_path, factor_path))
    problem = f"expected a record of LoRAs and a file of their factors, or neither, seen {records} and {factors}"
    require(records == factors <= 1, where, problem)


def _file_at(place: Callable[[str], str], index: int, files: list[File], where: str) -> File:
    """Return the file, if it is of the kind that `place` gives a path to."""
    require(0 <= index < len(files), where, f"file {index} of {len(files)}")
    file = files[index]
    require(file.path == place(file.blake3), where, f"expected {place('<blake3>')}, seen {file.path}")
    return file


def _check_placements(spec: TensorSpec, mesh: list[int], where: str) -> None:
    axes = len(spec.placements)
    require(axes == len(mesh), where, f"expected a placement for each of {len(mesh)} mesh axes, seen {axes}")
    for placement, devices in zip(spec.placements, mesh, strict=True):
        if placement is not None:
            held, size = placement.chunk * devices, spec.shape[placement.dim]
            problem = f"{devices} devices hold {held} of the {size} positions of dim {placement.dim}"
            require(held >= size, where, problem)
