"""The whole page: one file that needs nothing else, no script and no network."""

from pathlib import Path

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.errors import os_errors
from mochi_aot.tools.commands.text import human_bytes
from mochi_aot.tools.page.contents import Contents
from mochi_aot.tools.page.cuts import alike
from mochi_aot.tools.page.holdings import disk_bytes, files_section, origin_section, target_section, weights_section
from mochi_aot.tools.page.markup import Markup, joined, tag
from mochi_aot.tools.page.modelled import Modelled
from mochi_aot.tools.page.programs import facts, pipeline, programs_section, seconds_section
from mochi_aot.tools.page.style import STYLE

# Nothing may be loaded, from the network or elsewhere, and nothing run, whatever a bundle's strings say.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(contents: Contents, modelled: Modelled) -> Markup:
    """Return the page as HTML."""
    sizes = contents.sizes
    sections = [
        *([pipeline(sizes[0])] if sizes else []),
        seconds_section(contents, modelled),
        *(programs_section(sized, modelled, first=index == 0) for index, sized in enumerate(sizes)),
        weights_section(contents.manifest),
        target_section(contents.manifest),
        origin_section(contents),
        files_section(contents.manifest),
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", f"{contents.name}: a bundle of mochi-aot"),
        tag("style", Markup(STYLE)),
    )
    footer = tag("footer", f"Written by mochi-inspect. Bundle {contents.id}.")
    body = tag("body", _header(contents), tag("main", *sections), footer)
    return joined([Markup("<!doctype html>\n"), tag("html", head, body, lang="en"), "\n"])


def write_page(path: Path, contents: Contents, modelled: Modelled) -> int:
    """Write the page to a file, whole or not at all, in the place of one that is there; return its bytes.

    Raise BundleError where it cannot be written.
    """
    data = page(contents, modelled).encode()
    with os_errors(f"write {path}"), replacing(path) as new:
        new.write_bytes(data)
    return len(data)


def _header(contents: Contents) -> Markup:
    manifest = contents.manifest
    rows, columns = manifest.mesh
    device = sum(group.count * group.bytes_per_device for group in alike(manifest))
    names = [sized.name for sized in contents.sizes]
    more = len(manifest.geometries) - len(names)
    numbers = facts(
        [
            ("target", manifest.target),
            ("mesh", f"{rows}x{columns}"),
            ("video", ", ".join(names[:2]) + (f" and {len(names) + more - 2} more" if len(names) + more > 2 else "")),
            ("weights a device", human_bytes(device)),
            ("weights on disk", human_bytes(disk_bytes(manifest))),
            ("signatures", str(len(contents.signers))),
        ]
    )
    links = [
        ("#pipeline", "Pipeline"),
        ("#time", "Time"),
        *((f"#programs-{name}", f"Programs {name}") for name in names),
        ("#weights", "Weights"),
        ("#target", "Target"),
        ("#origin", "Origin"),
        ("#files", "Files"),
    ]
    nav = tag("nav", *(tag("a", text, href=link) for link, text in links))
    identity = tag("p", tag("code", contents.id), class_="note")
    return tag("header", tag("h1", contents.name), identity, numbers, nav)
