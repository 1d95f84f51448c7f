"""mochi-bundle: what is done with a bundle between the build host and the hosts that run it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mochi_aot.tools.commands.cli import MochiCommand, MochiGroup

if TYPE_CHECKING:
    from mochi_aot.tools.commands.console import Console

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


@click.group(cls=MochiGroup)
def main() -> None:
    """Sign bundles, verify signatures, and move bundles between hosts."""


@main.command(cls=MochiCommand)
@bundle_argument
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Ed25519 private key, PEM or OpenSSH.")
def sign(bundle: Path, key: Path) -> None:
    """Sign BUNDLE: write an Ed25519 signature over its id into its folder `signatures`.

    Several keys may sign. An encrypted key's password is asked for in a terminal.
    """
    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.tools.bundle.signing import sign as sign_bundle

    opened = Bundle.open(bundle)
    signer = sign_bundle(opened, key, _password if sys.stdin.isatty() else None)
    click.echo(f"{bundle}: bundle {opened.id}, signed by {signer.text}")


@main.command(cls=MochiCommand)
@bundle_argument
@click.option(
    "--trusted",
    required=True,
    metavar="KEYS",
    type=click.Path(path_type=Path),
    help="File of the public keys that are trusted: lines that begin with ssh-ed25519, or PEM.",
)
def verify(bundle: Path, trusted: Path) -> None:
    """Verify that a trusted key has signed BUNDLE, and that every byte of it is what was signed."""
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.runtime.signatures import require_signature

        opened = Bundle.open(bundle)
        signers = require_signature(opened, trusted)
        console.phase("comparing every byte with its hash")
        from mochi_aot.tools.commands.bundle_report import verified

        verified(opened)
    from mochi_aot.tools.commands.text import plain

    for signer in signers:
        click.echo(plain(f"{bundle}: bundle {opened.id}, signed by {signer.text}"))


force_option = click.option("--force", is_flag=True, help="Replace what is there already.")


@main.command(cls=MochiCommand)
@bundle_argument
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write.")
@force_option
def pack(bundle: Path, output: Path, force: bool) -> None:
    """Write BUNDLE and its signatures as one file, a tar with zstd where that helps. Every byte is checked."""
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.tools.bundle.archive import pack as pack_bundle
        from mochi_aot.tools.commands.text import human_bytes

        opened = Bundle.open(bundle)
        console.phase("packing")
        total = sum(file.nbytes for file in opened.manifest.files)
        size = pack_bundle(opened, output, force, _counted(console, total))
    click.echo(f"{output}: bundle {opened.id}, {human_bytes(size)} of {human_bytes(total)}")


@main.command(cls=MochiCommand)
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The bundle's folder.")
@force_option
def unpack(archive: Path, output: Path, force: bool) -> None:
    """Write the bundle in the file ARCHIVE to a folder. It appears when every byte of it is known to be right."""
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.tools.bundle.archive import unpack as unpack_bundle

        console.phase("unpacking")
        contents = unpack_bundle(archive, output, force, _counted(console, 0))
    click.echo(f"{output}: bundle {contents.id}")


def _counted(console: "Console", total: int) -> Callable[[int], None]:
    """Return what is told the bytes of each file, and shows how many of `total` are done; 0 if that is not known."""
    done = 0

    def progress(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if total:
            console.update(done, total, "bytes")

    return progress


def _password() -> bytes:
    text: str = click.prompt("password of the key", hide_input=True, err=True)
    return text.encode()


if __name__ == "__main__":
    main()
