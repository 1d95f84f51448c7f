"""A bundle's summary as people read it, and as JSON."""

import json

from mochi_aot.artifacts.errors import BundleError, os_errors
from mochi_aot.artifacts.kernel_archive import read_kernels
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Manifest, Plain
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.geometry import find_geometry
from mochi_aot.runtime.programs import verify_programs
from mochi_aot.runtime.signatures import check_origin
from mochi_aot.tools.commands.console import LOGGER
from mochi_aot.tools.commands.listing import listing
from mochi_aot.tools.commands.summary import BundleSummary, GeometrySummary, WeightSummary, WeightTotals, summarise
from mochi_aot.tools.commands.text import human_bytes, human_count, table

MAX_LISTED = 4  # numbers of a list in the model's sizes; longer ones are only counted


def verified(bundle: Bundle, expect_id: str | None = None) -> None:
    """Compare every byte of a bundle with its hash, its programs with each other and with the manifest, and what the
    manifest says of its kernels with them. Raises BundleError, and SignatureError for another id than the expected.
    """
    check_origin(bundle, None, expect_id)
    bundle.verify()
    verify_programs(bundle)
    _verify_kernels(bundle)
    total = sum(file.nbytes for file in bundle.manifest.files)
    LOGGER.info(f"verified: {len(bundle.manifest.files)} files, {human_bytes(total)}")


def _verify_kernels(bundle: Bundle) -> None:
    kernels = bundle.manifest.kernels
    if kernels is None:
        return
    archive = bundle.path / bundle.manifest.files[kernels.file].path
    with os_errors(f"read {archive}"):
        folders = {name.rsplit("/", 2)[0] for name, _ in read_kernels(archive)}
    keys = sorted({folder.partition("/")[0] for folder in folders})
    for field, said, seen in (("count", kernels.count, len(folders)), ("build_keys", kernels.build_keys, keys)):
        if said != seen:
            raise BundleError(
                f"{bundle.path}: kernels: {field} is {said}, and its archive has {seen}; compile it again"
            )


def describe(
    bundle: Bundle, role: str | None, geometry: str | None, weights: bool, as_json: bool, explain: bool = False
) -> str:
    """Return what mochi-inspect prints. With `explain`, the summary ends with the plans that a compile considers.

    Raise ModuleNotFoundError for `explain` on a host without the compiler.
    """
    if role is not None:
        return listing(bundle.program(role, find_geometry(bundle, geometry)), bundle.weights)
    summary = summarise(bundle)
    if weights:
        return weight_table(summary.weights)
    if not explain:
        return json.dumps(summary.plain(), indent=2) if as_json else report(summary)
    from mochi_aot.compiler.rebuilt import Rebuilder
    from mochi_aot.tools.commands.plan_report import plan_numbers, plan_report

    explanation = Rebuilder(bundle.manifest, bundle.manifest.geometries[0]).explain()
    if as_json:
        return json.dumps({**summary.plain(), "considered": plan_numbers(explanation)}, indent=2)
    return f"{report(summary)}\n\n{plan_report(explanation)}"


def notice_text(bundle: Bundle, name: str) -> str:
    """Return a licence or card of the checkpoint. Raise OptionError, listing all, for a name that there is not."""
    if name not in bundle.manifest.notices:
        raise OptionError(f"no notice {name!r} in {bundle.path}; it has {', '.join(bundle.manifest.notices) or 'none'}")
    return bundle.notice(name).decode("utf-8", "replace")


def report(summary: BundleSummary) -> str:
    """Return the summary without the list of weights, for people."""
    manifest = summary.manifest
    rows, columns = manifest.mesh
    lines = {
        "bundle": summary.id,
        "target": f"{manifest.target}, mesh {rows}x{columns}, {manifest.dtype}{_narrow(manifest)}",
        **_ttnn_lines(manifest),
        "limits": f"{manifest.text_length} text tokens, {manifest.step_capacity} steps a table",
        "made by": f"{manifest.created_by}, format {manifest.format_version}, with {_pairs(manifest.versions)}",
        "made from": _pairs(manifest.checkpoint),
        **({"notices": ", ".join(manifest.notices)} if manifest.notices else {}),
        **{f"model {name}": _sizes(value) for name, value in manifest.model.items()},
        "weights": _weights_line(summary.totals),
    }
    width = max(map(len, lines))
    header = "\n".join(f"{name:{width}}  {value}" for name, value in lines.items())
    return "\n\n".join([header, *map(_programs, summary.geometries)])


def _narrow(manifest: Manifest) -> str:
    """Return what the first line says of matrices in narrower numbers, of a target that has no line for dtypes."""
    return ", matrices in float8" if manifest.weights_dtype == "float8" else ""


def _ttnn_lines(manifest: Manifest) -> dict[str, str]:
    """Return what only bundles for ttnn have."""
    settings, kernels, lines = manifest.mesh_settings, manifest.kernels, {}
    if settings is not None:
        reserved = f"{settings.l1_small_bytes} B of L1 small a core, {human_bytes(settings.trace_bytes)} for traces"
        dtypes = f"weights in {manifest.weights_dtype}, links in {manifest.links_dtype}"
        lines["for"] = f"{settings.arch} chips, ttnn {manifest.ttnn}, {dtypes}"
        lines["mesh"] = f"fabric {settings.fabric}, {reserved}"
    if kernels is not None:
        maker = "the stand-in compiler (for mocked meshes only)" if kernels.stand_in else kernels.compiler
        keys = ", ".join(kernels.build_keys)
        lines["kernels"] = f"{kernels.count} by {maker}, for ttnn {kernels.ttnn} at {kernels.root}, {keys}"
    return lines


def weight_table(weights: list[WeightSummary]) -> str:
    """One line a weight, in the order of first use."""
    rows = [
        [
            human_bytes(weight.bytes_per_device),
            weight.dtype,
            "x".join(map(str, weight.local_shape)) or "scalar",
            "file" if weight.shards is None else str(weight.shards),
            weight.name,
        ]
        for weight in weights
    ]
    return table(["a device", "dtype", "local shape", "shards", "name"], rows)


def _programs(geometry: GeometrySummary) -> str:
    """With a column for the peak of memory only where it is known."""
    measured = any(program.dram_peak is not None for program in geometry.programs)
    rows = [
        [
            program.role,
            program.plan,
            str(program.instructions),
            human_count(program.flops, "FLOP"),
            human_bytes(program.weight_bytes),
            *([human_bytes(program.dram_peak or 0)] if measured else []),
            human_bytes(program.collective_bytes),
            _counts(program.collectives),
        ]
        for program in geometry.programs
    ]
    header = [
        "program",
        "plan",
        "instructions",
        "compute",
        "weights",
        *(["peak"] if measured else []),
        "sent",
        "collectives",
    ]
    return f"geometry {geometry.height}x{geometry.width}x{geometry.frames}\n{table(header, rows)}"


def _weights_line(totals: WeightTotals) -> str:
    sizes = f"{human_bytes(totals.bytes_per_device)} a device, {human_bytes(totals.bytes_on_disk)} on disk"
    parts = []
    if totals.references:
        parts.append(f"{totals.shards} shards stored once serve {totals.references} places")
    if totals.tensor_files:
        parts.append(f"{totals.tensor_files} tensor files")
    return "; ".join([f"{totals.count}, {sizes}", *parts])


def _counts(collectives: dict[str, int]) -> str:
    return ", ".join(f"{op} {count}" for op, count in collectives.items()) or "none"


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _sizes(value: Plain) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_sizes(item)}" for name, item in value.items())
    if isinstance(value, list):
        return f"[{len(value)} numbers]" if len(value) > MAX_LISTED + 1 else "x".join(map(str, value))
    return str(value)
