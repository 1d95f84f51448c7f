"""`mochi-serve`: one process that keeps bundles loaded and makes the videos that are asked for over HTTP."""

from importlib.util import find_spec
from pathlib import Path

import click

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.runtime.defaults import DEVICES
from mochi_aot.tools.commands.cli import MochiCommand, print_text


class ServePackageError(MochiError):
    """A package that only the server needs is not installed."""

    exit_code = ExitCode.DEVICE


def _named(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    """Return the folders of NAME=PATH words by their names."""
    bundles: dict[str, Path] = {}
    for value in values:
        name, found, path = value.partition("=")
        if not (name and found and path) or name in bundles:
            raise click.BadParameter(f"{value!r} is not NAME=PATH, with a name of its own")
        bundles[name] = Path(path)
    return bundles


@click.command(cls=MochiCommand)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What requests call BUNDLE in `model`. Default: its folder's name.")
@click.option(
    "--bundle",
    "more",
    metavar="NAME=PATH",
    multiple=True,
    callback=_named,
    help="Another bundle, chosen by `model`. Several of the target torch, or one for ttnn beside them.",
)
@click.option(
    "--delta",
    "styles",
    metavar="NAME=PATH",
    multiple=True,
    callback=_named,
    help="A delta of BUNDLE, as mochi-bundle makes it: a style that requests choose by `model`.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen on; 0: a free one."
)
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("mochi-serve"),
    show_default=True,
    help="Folder of the queue and the finished videos; made if it is not there.",
)
@click.option(
    "--device",
    type=click.Choice([device for devices in DEVICES.values() for device in devices if device != "simulator"]),
    help="What the bundle runs on, as for mochi-run.",
)
@click.option(
    "--api-keys",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Who may ask: lines of NAME KEY [jobs=N] [priority=N]. Default: everybody who reaches the port.",
)
@click.option(
    "--max-queue", type=click.IntRange(1), default=200, show_default=True, help="Jobs that may wait; more get 429."
)
@click.option(
    "--keep-hours", type=click.FloatRange(0), default=24.0, show_default=True, help="How long finished jobs are kept."
)
@click.option(
    "--keep-gb", type=click.FloatRange(0), default=10.0, show_default=True, help="How much finished videos may take."
)
@click.option(
    "--step-limit",
    metavar="SECONDS",
    type=click.FloatRange(1),
    default=600.0,
    show_default=True,
    help="Liveness fails when no step, load or decoding has ended for so long.",
)
@click.option("--ui", is_flag=True, help="Have a page for people at /, made with Gradio.")
def main(
    bundle: Path,
    name: str | None,
    more: dict[str, Path],
    styles: dict[str, Path],
    host: str,
    port: int,
    state: Path,
    device: str | None,
    api_keys: Path | None,
    max_queue: int,
    keep_hours: float,
    keep_gb: float,
    step_limit: float,
    ui: bool,
) -> None:
    """Make videos from the compiled BUNDLE for whoever asks over HTTP.

    Prints the address once videos can be made. Ctrl-C or SIGTERM stops after the current step and puts the job back
    into the queue, a second one at once; a server that is started again on the same --state goes on with it.
    """
    first = bundle.resolve().name.removesuffix(".bundle") if name is None else name
    names = [first, *more, *styles]
    if twice := [name for name in names if names.count(name) > 1]:
        raise click.UsageError(f"two bundles or deltas are called {twice[0]!r}; give others, BUNDLE's by --name")
    try:
        from mochi_aot.tools.serve.run import serve
        from mochi_aot.tools.serve.settings import Settings
    except ModuleNotFoundError as error:
        problem = f"{error.name} is not installed, which the server needs: pip install 'mochi-aot[serve]'"
        raise ServePackageError(problem) from None
    if ui and find_spec("gradio") is None:
        raise ServePackageError("gradio is not installed, which --ui needs: pip install 'mochi-aot[ui]'")
    settings = Settings(
        bundles={first: bundle, **more},
        styles=styles,
        state=state,
        host=host,
        port=port,
        device=device,
        keys=api_keys,
        max_queue=max_queue,
        keep_hours=keep_hours,
        keep_bytes=int(keep_gb * 1e9),
        step_limit=step_limit,
        ui=ui,
    )
    serve(settings, print_text)


if __name__ == "__main__":
    main()
