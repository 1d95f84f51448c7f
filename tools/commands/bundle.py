"""mochi-bundle: what is done with a bundle between the build host and the hosts that run it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mochi_aot.tools.commands.cli import MochiCommand, MochiGroup, json_option, lora_option, print_json, print_text

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
    """Sign BUNDLE, or a delta: write an Ed25519 signature over its id into its folder `signatures`.

    Several keys may sign. An encrypted key's password is asked for in a terminal.
    """
    from mochi_aot.tools.bundle.signing import open_signed
    from mochi_aot.tools.bundle.signing import sign as sign_bundle

    opened = open_signed(bundle)
    signer = sign_bundle(opened, key, _password if sys.stdin.isatty() else None)
    print_text(f"{bundle}: bundle {opened.id}, signed by {signer.text}")


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
    """Verify that a trusted key has signed BUNDLE, or a delta, and that every byte of it is what was signed."""
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.runtime.signatures import require_signature
        from mochi_aot.tools.bundle.signing import open_signed

        opened = open_signed(bundle)
        signers = require_signature(opened, trusted)
        console.phase("comparing every byte with its hash")
        from mochi_aot.tools.commands.bundle_report import verified

        if isinstance(opened, Bundle):
            verified(opened)
        else:
            opened.verify()
    for signer in signers:
        print_text(f"{bundle}: bundle {opened.id}, signed by {signer.text}")


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
    print_text(f"{output}: bundle {opened.id}, {human_bytes(size)} of {human_bytes(total)}")


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
    print_text(f"{output}: bundle {contents.id}")


@main.command(cls=MochiCommand)
@bundle_argument
@click.argument("url")
@force_option
def push(bundle: Path, url: str, force: bool) -> None:
    """Put BUNDLE and its signatures at URL: s3://, oci://HOST/NAME:TAG, file:// and what else fsspec knows.

    Only what is not there is sent. URL is a bundle when all of it is there.
    """
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.tools.bundle.places import open_sink
        from mochi_aot.tools.bundle.pushing import push as push_bundle
        from mochi_aot.tools.commands.text import human_bytes

        sink, opened = open_sink(url), Bundle.open(bundle)
        console.phase("pushing")
        total = sum(file.nbytes for file in opened.manifest.files)
        sent = push_bundle(opened, sink, force, _counted(console, total))
    print_text(f"{url}: bundle {opened.id}, {human_bytes(sent)} of {human_bytes(total)} sent")


@main.command(cls=MochiCommand)
@click.argument("url")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option(
    "--have",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A bundle, or a folder of bundles, whose files and shards are taken from here instead of pulled. Repeatable.",
)
@click.option(
    "--require-signature",
    metavar="KEYS",
    type=click.Path(path_type=Path),
    help="Pull the bundle only if a key in this file has signed it: lines that begin with ssh-ed25519, or PEM.",
)
@click.option("--expect-id", metavar="ID", help="Pull the bundle only if this is its id.")
@force_option
def pull(
    url: str, output: Path, have: tuple[Path, ...], require_signature: Path | None, expect_id: str | None, force: bool
) -> None:
    """Get the bundle at URL: https://, s3://, hf://, oci://HOST/NAME:TAG, file:// and what else fsspec knows.

    It appears when every byte of it is known to be right. What a pull that was stopped has got stays beside it, in
    .NAME.pull, and the next one goes on from there.
    """
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.artifacts.layout import MANIFEST_PATH
        from mochi_aot.runtime.signatures import read_trusted_keys
        from mochi_aot.tools.bundle.local import LocalStore, bundles_in
        from mochi_aot.tools.bundle.places import open_source
        from mochi_aot.tools.bundle.pulling import Wanted
        from mochi_aot.tools.bundle.pulling import pull as pull_bundle
        from mochi_aot.tools.commands.text import human_bytes

        source = open_source(url)
        wanted = Wanted(expect_id, read_trusted_keys(require_signature) if require_signature else ())
        folders = [*have, *([output] if force and (output / MANIFEST_PATH).exists() else [])]
        local = LocalStore(bundle for folder in folders for bundle in bundles_in(folder))
        console.phase("pulling")
        pulled = pull_bundle(source, url, output, force, wanted, local, _counted(console, 0))
    moved = f"{human_bytes(pulled.moved)} of {human_bytes(pulled.contents.nbytes)} pulled"
    signed = "".join(f", signed by {signer.text}" for signer in pulled.signers)
    print_text(f"{output}: bundle {pulled.contents.id}, {moved}{signed}")


@main.command(cls=MochiCommand)
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@json_option
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Show in what the bundle B differs from A: fields, weights by name, and programs by instruction.

    The exit code is 0 whether they differ or not; --json says it as `equal`.
    """
    from mochi_aot.tools.commands.console import Console

    with Console():
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.tools.bundle.diff import difference
        from mochi_aot.tools.commands.diff_report import diff_numbers, diff_report

        found = difference(Bundle.open(before), Bundle.open(after))
    if as_json:
        print_json(diff_numbers(found))
    else:
        print_text(diff_report(found))


@main.command(cls=MochiCommand)
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("style", type=click.Path(path_type=Path), required=False)
@lora_option("Add a LoRA to BASE, in the place of STYLE")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The delta's folder.")
@force_option
@json_option
def delta(base: Path, style: Path | None, loras: tuple[str, ...], output: Path, force: bool, as_json: bool) -> None:
    """Write what makes the bundle STYLE of the bundle BASE, or adds LoRAs to BASE, for mochi-run --delta.

    Of weights in which a LoRA was merged it holds the LoRA's factors; others whose bytes differ it holds whole. Both
    bundles must have the same programs: compile STYLE as BASE was compiled, with --reuse BASE. With --lora there is no
    STYLE: neither the checkpoint nor any weight is read.
    """
    if (style is None) == (not loras):
        raise click.UsageError("give the bundle STYLE, or --lora, and not both")
    from mochi_aot import __version__
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.artifacts.delta_writer import write_delta
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.tools.commands.text import human_bytes

        opened, created_by = Bundle.open(base), f"mochi-bundle {__version__}"
        if style is None:
            from mochi_aot.runtime.cache import ensure_temporary_files

            console.phase("compiling the transformer's programs again, without weights")
            ensure_temporary_files()  # before torch is imported
            from mochi_aot.compiler.lora_delta import write_delta_of_loras

            written = write_delta_of_loras(opened, loras, output, force, created_by)
        else:
            console.phase("writing what differs")
            written = write_delta(opened, Bundle.open(style), output, force, created_by)
    if as_json:
        print_json(
            {"delta": str(output), "id": written.id, "base": opened.id, "style": written.style or None}
            | {"tuned": written.tuned, "replaced": written.replaced, "bytes": written.nbytes}
        )
        return
    held = f"{written.tuned} weights by factors, {written.replaced} whole"
    print_text(f"{output}: delta {written.id}, {human_bytes(written.nbytes)}, {held}")


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
