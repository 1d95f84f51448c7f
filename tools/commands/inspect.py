"""mochi-inspect: what a bundle holds, on any machine that has the bundle."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mochi_aot.artifacts.roles import ROLES
from mochi_aot.tools.commands.cli import MochiCommand, json_option, print_text

if TYPE_CHECKING:
    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.tools.commands.console import Console


@click.command(cls=MochiCommand)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--program", "role", type=click.Choice(list(ROLES)), help="Print this program's instructions instead.")
@click.option("--geometry", metavar="HxWxF", help="Whose program to print. Default: the bundle's first geometry.")
@click.option("--weights", is_flag=True, help="List the weights instead.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write a page for a browser instead.")
@click.option(
    "--explain",
    is_flag=True,
    help="Add the plans that a compile of the model for this mesh considers; needs the compiler, and a while.",
)
@click.option("--notice", metavar="NAME", help="Print this licence or card of the checkpoint instead.")
@click.option(
    "--sbom",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what made the bundle, with versions, hashes and licences, as CycloneDX 1.6 JSON.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@json_option
@click.option("--verify", is_flag=True, help="First compare every byte of the bundle with its hash.")
def main(
    bundle: Path,
    role: str | None,
    geometry: str | None,
    weights: bool,
    notice: str | None,
    sbom: Path | None,
    html: Path | None,
    explain: bool,
    force: bool,
    as_json: bool,
    verify: bool,
) -> None:
    """Show what BUNDLE holds: its target, its programs and what they cost, and its weights.

    FLOPs, bytes sent and collectives are of one run of a program on one device; peak is the most memory taken then.
    """
    if (role is not None) + weights + as_json + (notice is not None) + (html is not None) > 1:
        raise click.UsageError(
            "--program, --weights, --notice, --html and --json each give something else: give one of them"
        )
    if explain and (role is not None or weights or notice is not None):
        raise click.UsageError("--explain adds plans to the summary, to --json and to --html")
    if geometry is not None and role is None:
        raise click.UsageError("--geometry says whose program to print: give --program too")
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        if verify:
            console.phase("comparing every byte with its hash")
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.tools.commands.bundle_report import describe, notice_text, verified

        opened = Bundle.open(bundle)
        if verify:
            verified(opened)
        if sbom is not None:
            from mochi_aot.tools.commands.sbom import write_sbom

            write_sbom(opened, sbom, force)
        if notice is not None:
            text = notice_text(opened, notice)
        elif html is not None:
            text = _written(opened, html, explain, force, console)
        else:
            if explain:
                console.phase("considering plans")
            text = describe(opened, role, geometry, weights, as_json, explain)
    print_text(text)  # JSON is plain as it is


def _written(bundle: "Bundle", path: Path, explain: bool, force: bool, console: "Console") -> str:
    """Write the page, and return what to say of it."""
    from mochi_aot.runtime.paths import check_writable
    from mochi_aot.tools.commands.text import human_bytes
    from mochi_aot.tools.page.contents import read_contents
    from mochi_aot.tools.page.modelled import model
    from mochi_aot.tools.page.page import write_page

    check_writable(path, force)  # before what takes long
    contents = read_contents(bundle)
    console.phase("modelling the programs")
    return f"{path}: {human_bytes(write_page(path, contents, model(contents, explain)))}"


if __name__ == "__main__":
    main()
