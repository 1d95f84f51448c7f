"""What every command line shares: how it reports a fault and how it stops."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from mochi_aot import __version__
from mochi_aot.artifacts.errors import MochiError

DEFAULT_GEOMETRY = "480x848x163"  # the published default, HxWxF
CHIP_DTYPES = ("bfloat16", "bfloat8_b")  # of weights on chips, and of what chips send each other
# Exit codes; what a shell reports for a command that Ctrl-C or SIGTERM stopped is 128 and the signal's number.
FAULT, INTERRUPTED, TERMINATED = 1, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM came: all that Ctrl-C would clean up is cleaned up."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Meanwhile SIGTERM raises Terminated."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Described(click.Command):
    """Has `--version`, and `-h` beside `--help`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])
        click.version_option(__version__, message="%(prog)s %(version)s")(self)


class MochiGroup(_Described, click.Group):
    """A command line that has commands, each of them a MochiCommand."""


class MochiCommand(_Described):
    """A command whose user errors are one message on stderr, without a traceback, and exit code 1.

    Use it as `@click.command(cls=MochiCommand)`, with the imports that a thin install lacks inside the function.
    Ctrl-C gives exit code 130, and SIGTERM 143, after every cleanup on the way out.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with sigterm_as_interrupt():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # a reader as `head` that has enough: click ends quietly
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("mochi_aot"):
                raise
            advice = "this command is for the build host: pip install 'mochi-aot[compile]'"
            click.echo(f"error: {error.name} is not installed; {advice}", err=True)
            sys.exit(FAULT)
        except (MochiError, OSError) as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(FAULT)
        except KeyboardInterrupt as error:
            click.echo("interrupted", err=True)
            sys.exit(TERMINATED if isinstance(error, Terminated) else INTERRUPTED)
