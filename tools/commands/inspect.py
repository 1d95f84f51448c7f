"""mochi-inspect: what a bundle holds, on any machine that has the bundle."""

from pathlib import Path

import click

from mochi_aot.artifacts.roles import ROLES
from mochi_aot.tools.commands.cli import MochiCommand, json_option, print_text


@click.command(cls=MochiCommand)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--program", "role", type=click.Choice(list(ROLES)), help="Print this program's instructions instead.")
@click.option("--geometry", metavar="HxWxF", help="Whose program to print. Default: the bundle's first geometry.")
@click.option("--weights", is_flag=True, help="List the weights instead.")
@click.option("--notice", metavar="NAME", help="Print this licence or card of the checkpoint instead.")
@click.option(
    "--sbom",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what made the bundle, with versions, hashes and licences, as CycloneDX 1.6 JSON.",
)
@json_option
@click.option("--verify", is_flag=True, help="First compare every byte of the bundle with its hash.")
def main(
    bundle: Path,
    role: str | None,
    geometry: str | None,
    weights: bool,
    notice: str | None,
    sbom: Path | None,
    as_json: bool,
    verify: bool,
) -> None:
    """Show what BUNDLE holds: its target, its programs and what they cost, and its weights.

    FLOPs, bytes sent and collectives are of one run of a program on one device; peak is the most memory taken then.
    """
    if (role is not None) + weights + as_json + (notice is not None) > 1:
        raise click.UsageError("--program, --weights, --notice and --json each print something else: give one of them")
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

            write_sbom(opened, sbom)
        text = describe(opened, role, geometry, weights, as_json) if notice is None else notice_text(opened, notice)
    print_text(text)  # JSON is plain as it is


if __name__ == "__main__":
    main()
