"""Sections of the page about what a bundle holds besides programs: weights, kernels, files, and who made it of what."""

from collections.abc import Mapping

from mochi_aot.artifacts.layout import WEIGHT_FOLDER
from mochi_aot.artifacts.schema import Manifest, Plain
from mochi_aot.tools.commands.text import human_bytes
from mochi_aot.tools.page.charts import grid
from mochi_aot.tools.page.contents import Contents
from mochi_aot.tools.page.cuts import Alike, Pattern, alike, patterns
from mochi_aot.tools.page.markup import Content, Markup, definitions, joined, section, table, tag

MAX_PATTERNS, MAX_GROUPS = 12, 400  # that are drawn, and listed
_DEPTH = 3  # of the model's sizes that are shown


def weights_section(manifest: Manifest) -> Markup:
    """Return how weights are cut over the mesh, drawn, and a table of them, those that are alike in one row."""
    groups = alike(manifest)
    found = patterns(groups)
    letters = {pattern: _letter(index) for index, pattern in enumerate(found)}
    drawn = list(found.items())[:MAX_PATTERNS]
    figures = [
        tag(
            "figure",
            grid(pattern, manifest.mesh),
            tag("figcaption", _caption(letters[pattern], pattern, same, manifest)),
        )
        for pattern, same in drawn
    ]
    more = [f"{len(found) - MAX_PATTERNS} more ways are not drawn."] if len(found) > MAX_PATTERNS else []
    rows = [_row(group, letters[group.pattern]) for group in groups[:MAX_GROUPS]]
    if len(groups) > MAX_GROUPS:
        more.append(f"{len(groups) - MAX_GROUPS} more kinds of weight are not listed.")
    header = ["weights", "number", "dtype", "on a device", "bytes a device, each", "all", "cut", "prepared"]
    note = (
        "Each box is a device of the mesh, the dashed outline is the weight, and the filled part is what the device "
        "holds. Devices with the same number hold the same piece."
    )
    return section(
        "Weights over the mesh",
        "weights",
        tag("div", *figures, class_="cuts"),
        tag("h4", f"{len(manifest.weights):,} weights, layers that are alike together"),
        table(header, rows, (1, 4, 5)),
        *(tag("p", text, class_="note") for text in more),
        note=note,
    )


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"#{index + 1}"


def _caption(letter: str, pattern: Pattern, same: list[Alike], manifest: Manifest) -> Markup:
    count, size = sum(g.count for g in same), sum(g.count * g.bytes_per_device for g in same)
    axes = ("rows", "columns")
    if pattern.count == 1:
        how = (
            f"whole on each of {len(pattern.pieces)} devices" if len(pattern.pieces) > 1 else "whole on the one device"
        )
    elif pattern.axes is None:
        how = "how it is cut is known to its tensor file alone"
    else:
        over = " and ".join(f"{manifest.mesh[axis]} {axes[axis]}" for axis, _ in pattern.axes)
        copies = f", each piece on {pattern.copies} devices" if pattern.copies > 1 else ", no piece twice"
        how = f"{pattern.count} pieces" + (f" over {over}" if over else "") + copies
    numbers = f"{count:,} weights, {human_bytes(size)} a device"
    return joined([tag("b", letter), " ", how, tag("br"), tag("span", numbers, class_="soft")])


def _row(group: Alike, letter: str) -> list[Content]:
    cuts = group.cuts
    axes = ("rows", "columns")
    how = ", ".join(f"dim {cut.dim} over {axes[cut.axis]} by {cut.chunk}" for cut in cuts or ()) or "whole"
    return [
        tag("code", tag("span", group.label, class_="wide")),
        f"{group.count:,}",
        group.dtype,
        "x".join(map(str, group.local_shape)) or "scalar",
        human_bytes(group.bytes_per_device),
        human_bytes(group.bytes_per_device * group.count),
        joined([tag("b", letter), " ", how if cuts is not None else ""]),
        group.form,
    ]


def target_section(manifest: Manifest) -> Markup:
    """Return what the bundle runs on, and its kernels."""
    rows, columns = manifest.mesh
    pairs: list[tuple[Content, Content]] = [
        ("target", manifest.target),
        ("mesh", f"{rows} rows x {columns} columns"),
        ("activations", manifest.dtype),
        *([("matrices", "float8")] if manifest.weights_dtype == "float8" else []),
        ("limits", f"{manifest.text_length} text tokens, {manifest.step_capacity} steps a table"),
    ]
    settings, kernels = manifest.mesh_settings, manifest.kernels
    if settings is not None:
        pairs += [
            ("chips", f"{settings.arch}, ttnn {manifest.ttnn}"),
            ("dtypes", f"weights in {manifest.weights_dtype}, links in {manifest.links_dtype}"),
            ("fabric", settings.fabric),
            (
                "set apart",
                f"{human_bytes(settings.l1_small_bytes)} of a core's L1, "
                f"{human_bytes(settings.trace_bytes)} for traces",
            ),
        ]
    if kernels is None:
        pairs.append(("kernels", "none built ahead of time"))
    else:
        maker = "by the stand-in compiler: for mocked meshes only" if kernels.stand_in else f"by {kernels.compiler}"
        pairs += [
            ("kernels", f"{kernels.count:,} {maker}"),
            ("for", f"ttnn {kernels.ttnn} at {kernels.root}"),
            ("build keys", ", ".join(kernels.build_keys)),
        ]
    return section("Target and kernels", "target", definitions(pairs))


def origin_section(contents: Contents) -> Markup:
    """Return who made the bundle, of what and with what, and who has signed it."""
    manifest = contents.manifest
    pairs: list[tuple[Content, Content]] = [
        ("made by", f"{manifest.created_by}, format {manifest.format_version}"),
        *((f"version of {name}", value) for name, value in manifest.versions.items()),
        *((f"checkpoint {name}", value) for name, value in manifest.checkpoint.items()),
        ("notices", ", ".join(manifest.notices) or "none: the checkpoint had no licence or card"),
    ]
    signed = [tag("li", tag("code", signer)) for signer in contents.signers]
    says = "Signatures are listed, not verified here: mochi-bundle verify does that with the keys that you trust."
    nobody = tag("p", "Nobody has signed this bundle.", class_="note")
    signatures = [tag("ul", *signed), tag("p", says, class_="note")] if signed else [nobody]
    return section(
        "Origin",
        "origin",
        definitions(pairs),
        tag("h4", "Signatures"),
        *signatures,
        tag("h4", "Model"),
        _model(manifest),
    )


def _model(manifest: Manifest) -> Markup:
    pairs = [(name, _sizes(value, _DEPTH)) for name, value in manifest.model.items()]
    return definitions(pairs) if pairs else tag("p", "The bundle says nothing of the model's sizes.", class_="note")


def _sizes(value: Plain, depth: int) -> str:
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_sizes(item, depth - 1)}" for name, item in list(value.items())[:40])
    if isinstance(value, list):
        return f"[{len(value)} numbers]" if len(value) > 5 else "x".join(_sizes(item, depth - 1) for item in value)
    return str(value)


def files_section(manifest: Manifest) -> Markup:
    """Return the files by folder."""
    sums: dict[str, list[int]] = {}
    for file in manifest.files:
        folder = file.path.partition("/")[0]
        sums.setdefault(folder, []).append(file.nbytes)
    rows = [[folder, f"{len(sizes):,}", human_bytes(sum(sizes))] for folder, sizes in sums.items()]
    shared = sum(len(weight.shards) for weight in manifest.weights)
    stored = f"{len(manifest.shards):,} shards stored once serve {shared:,} places on devices." if shared else ""
    total = sum(sum(sizes) for sizes in sums.values())
    rows.append(["all", f"{len(manifest.files):,}", human_bytes(total)])
    return section("Files", "files", table(["folder", "files", "bytes"], rows, (1, 2)), note=stored)


def disk_bytes(manifest: Manifest) -> int:
    """Return the bytes of all files of weights."""
    return sum(file.nbytes for file in manifest.files if file.path.startswith(f"{WEIGHT_FOLDER}/"))
