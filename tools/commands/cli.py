"""What every command line shares: its options for messages, how it reports a fault, and how it stops.

Nothing that takes long to import is imported here or at the top of a command's module: --help is to be fast.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NoReturn

import click

from mochi_aot import __version__
from mochi_aot.artifacts.errors import ExitCode, MochiError, exit_code, one_line
from mochi_aot.artifacts.layout import CHIP_DTYPES
from mochi_aot.artifacts.machines import NAMES as MACHINE_NAMES
from mochi_aot.runtime.interrupt import Stop, stopping

EXIT_CODES = (
    "Exit codes: 0 success, 1 internal fault, 2 usage, 3 bad input, 4 the output exists, 5 device or target not usable "
    "here, 6 op or plan refused, 7 the system failed, 129, 130 or 143 interrupted."
)
KINDS = {
    ExitCode.FAULT: "fault",
    ExitCode.USAGE: "usage",
    ExitCode.INPUT: "input",
    ExitCode.EXISTS: "exists",
    ExitCode.DEVICE: "device",
    ExitCode.REFUSED: "refused",
    ExitCode.SYSTEM: "system",
    ExitCode.HANGUP: "interrupted",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "interrupted",
}
_QUIET, _VERBOSE, _FORMAT = (f"mochi_aot.{name}" for name in ("quiet", "verbose", "log_format"))


class _Described(click.Command):
    """Has `--version`, `-h` beside `--help`, and the exit codes at the end of its help."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        named.setdefault("epilog", EXIT_CODES)
        super().__init__(*arguments, **named)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])
        click.version_option(__version__, message="%(prog)s %(version)s")(self)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asked = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _end_usage(error, ctx, asked)
            _raise_plain(error)


class MochiGroup(_Described, click.Group):
    """A command line that has commands, each of them a MochiCommand."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            _end_usage(error, ctx, args)
            _raise_plain(error)


class MochiCommand(_Described):
    """A command whose errors are one message on stderr, without a traceback, and an exit code for each kind of error.

    Use it as `@click.command(cls=MochiCommand)`, with imports that take long inside the function. Ctrl-C gives exit
    code 130, SIGTERM 143 and SIGHUP 129, after every cleanup on the way out. Messages of the logger `mochi_aot` go to
    stderr.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _message_options(self)

    def invoke(self, ctx: click.Context) -> Any:
        _open_closed_streams()
        stop = Stop()
        with _messages(ctx):
            try:
                with stopping(stop):
                    return super().invoke(ctx)
            except BrokenPipeError:
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115  for what is flushed when Python ends
                sys.exit(int(ExitCode.BROKEN_PIPE))  # a reader as `head` that has enough
            except KeyboardInterrupt:
                _end_interrupted(stop.number)
            except (Exception, SystemExit) as error:  # noqa: BLE001  the last resort of every command
                _end_failed(error, stop, ctx)


def _end_failed(error: Exception | SystemExit, stop: Stop, ctx: click.Context) -> NoReturn:
    """End with what an error says, unless it is what libraries make of a signal that came while they worked."""
    if isinstance(error, SystemExit | click.exceptions.Exit):
        code = error.code if isinstance(error, SystemExit) else error.exit_code
        if stop.number and code:
            _end_interrupted(stop.number)
        raise error
    if stop.number:
        _end_interrupted(stop.number)
    if isinstance(error, click.UsageError):
        if ctx.meta.get(_FORMAT) != "json":
            _raise_plain(error)
        _end(error.format_message(), ExitCode.USAGE)
    if isinstance(error, click.ClickException | click.Abort):
        raise error
    _end_with(error, ctx)


def _open_closed_streams() -> None:
    """Have /dev/null in the place of standard streams that were closed, so that no file is opened in their place."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115  until Python ends


def _end_interrupted(number: int) -> NoReturn:
    """Exit as shells report a command that a signal has ended; 0 stands for SIGINT."""
    _end("interrupted", ExitCode(128 + (number or signal.SIGINT)))


def _end_with(error: Exception, ctx: click.Context) -> NoReturn:
    """Say what went wrong and exit with the code of the error's kind."""
    code = exit_code(error)
    text = one_line(error)
    if isinstance(error, ModuleNotFoundError) and code is ExitCode.DEVICE:
        extras = "compile,dev" if error.name == "diffusers" else "compile"
        text = f"{error.name} is not installed; this command is for the build host: pip install 'mochi-aot[{extras}]'"
    elif code is ExitCode.FAULT and not isinstance(error, MochiError):
        told = "" if ctx.meta.get(_VERBOSE) else "; please report it, with --verbose for the traceback"
        text = f"internal error: {type(error).__name__}: {error}{told}"
    elif isinstance(error, MemoryError):
        text = f"out of memory: {error}" if text else "out of memory"
    _end(text, code, error if ctx.meta.get(_VERBOSE) else None)


def _end(text: str, code: ExitCode, error: Exception | None = None) -> NoReturn:
    from mochi_aot.tools.commands.console import LOGGER, say_interrupted

    if KINDS[code] == "interrupted":
        say_interrupted(text, code)
    else:
        LOGGER.error("%s", text, exc_info=error, extra={"numbers": {"kind": KINDS[code], "exit_code": int(code)}})
    sys.exit(int(code))


def _raise_plain(error: click.UsageError) -> NoReturn:
    """Raise a usage error, which click shows by itself, with the names in it made plain."""
    from mochi_aot.tools.commands.text import plain

    raise click.UsageError(plain(error.format_message()), error.ctx) from None


def _end_usage(error: click.UsageError, ctx: click.Context, arguments: list[str]) -> None:
    """End with a JSON object if the arguments, of which another one is wrong, ask for --log-format json."""
    if "--log-format=json" not in arguments and ("--log-format", "json") not in pairwise(arguments):
        return
    ctx.meta[_FORMAT] = "json"
    with _messages(ctx):
        _end(error.format_message(), ExitCode.USAGE)


@contextmanager
def _messages(ctx: click.Context) -> Iterator[None]:
    from mochi_aot.tools.commands.console import LogSettings, logging_as

    settings = LogSettings(
        bool(ctx.meta.get(_QUIET)), bool(ctx.meta.get(_VERBOSE)), ctx.meta.get(_FORMAT, "text") == "json"
    )
    with logging_as(settings):
        yield


def _message_options(command: click.Command) -> None:
    """Add --quiet, --verbose and --log-format, which the command's function does not see."""

    def kept(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
            ctx.meta[key] = value

        return keep

    def add(name: str, key: str, text: str, **settings: Any) -> None:
        click.option(name, callback=kept(key), expose_value=False, help=text, **settings)(command)

    add("--quiet", _QUIET, "Say only warnings and errors.", is_flag=True)
    add("--verbose", _VERBOSE, "Say more, and show the tracebacks of errors.", is_flag=True)
    choice = {"type": click.Choice(("text", "json")), "default": "text", "show_default": True}
    add("--log-format", _FORMAT, "Of messages on stderr: text, or one JSON object a line.", **choice)


def chip_dtype_option(name: str, help: str, choices: Sequence[str] = CHIP_DTYPES) -> Callable[[Any], Any]:
    """Return an option for what chips have in bfloat16, or in bfloat8_b, which is about half the bytes."""
    return click.option(name, type=click.Choice(choices), default=choices[0], show_default=True, help=help)


arch_option = click.option(
    "--arch",
    type=click.Choice(MACHINE_NAMES),
    default=MACHINE_NAMES[0],
    show_default=True,
    help="Of the chips, for ttnn; or a machine, whose mesh is taken unless --mesh says another.",
)


def lora_option(what: str) -> Callable[[Any], Any]:
    """Return an option that names LoRAs; `what` begins its help."""
    return click.option(
        "--lora",
        "loras",
        multiple=True,
        metavar="FILE|ID[:STRENGTH]",
        help=f"{what}: a safetensors file, a folder that has one, or a repository of the hub, and how strongly it "
        "counts, 1 unless said. In the keys of Genmo, diffusers, peft or ComfyUI. Repeatable.",
    )


def keep_stdout_for_results() -> None:
    """Send what libraries write on stdout to stderr from now on, also at this process's end, as the simulator does."""
    sys.stdout.flush()
    sys.stdout = open(os.dup(1), "w", encoding="utf-8")  # noqa: SIM115 - open for as long as the process is
    os.dup2(2, 1)


def _set_simulator(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        os.environ["TT_METAL_SIMULATOR"] = value


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
simulator_option = click.option(
    "--simulator",
    metavar="FILE",
    callback=_set_simulator,
    expose_value=False,
    help="The library of ttsim for a machine that has the bundle's mesh. Default: $TT_METAL_SIMULATOR.",
)


def print_text(text: str) -> None:
    """Print a command's result for people. What a bundle or a file's name holds is shown, and never obeyed."""
    from mochi_aot.tools.commands.text import plain

    click.echo(plain(text))


def print_json(result: Any) -> None:
    """Print a command's result as JSON, the only thing on stdout."""
    import json

    click.echo(json.dumps(result, indent=2))
