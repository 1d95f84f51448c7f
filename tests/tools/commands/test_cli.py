import importlib
import os
import signal
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import mochi_aot
from mochi_aot.artifacts.errors import MochiError
from mochi_aot.tools.commands.cli import MochiCommand


def _command(fault: BaseException | None) -> click.Command:
    @click.command(cls=MochiCommand)
    def command() -> None:
        if fault is not None:
            raise fault
        click.echo("done")

    return command


@pytest.mark.parametrize(
    ("fault", "code", "stderr"),
    [
        (None, 0, ""),
        (MochiError("x is y, expected z"), 3, "error: x is y, expected z\n"),
        (PermissionError(13, "Permission denied", "/x"), 7, "error: [Errno 13] Permission denied: '/x'\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (click.UsageError("odd"), 2, "Usage: command [OPTIONS]\nTry 'command --help' for help.\n\nError: odd\n"),
    ],
)
def test_exit_codes_and_messages(fault: BaseException | None, code: int, stderr: str) -> None:
    result = CliRunner().invoke(_command(fault), [])
    assert (result.exit_code, result.stderr) == (code, stderr)
    assert result.stdout == ("done\n" if fault is None else "")


def test_sigterm_is_an_interrupt_with_its_own_exit_code() -> None:
    """Cleanups run, and the handler that was there before is there again."""
    before, cleaned = signal.getsignal(signal.SIGTERM), []

    @click.command(cls=MochiCommand)
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)

    result = CliRunner().invoke(command, [])
    assert (result.exit_code, result.stderr, cleaned) == (143, "interrupted\n", [True])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_bug_is_one_line_and_has_its_traceback_when_asked_for() -> None:
    short, long = (CliRunner().invoke(_command(ZeroDivisionError("by 0")), words) for words in ([], ["--verbose"]))
    assert (short.exit_code, short.stdout) == (1, "") and (long.exit_code, long.stdout) == (1, "")
    line = "error: internal error: ZeroDivisionError: by 0"
    assert short.stderr == f"{line}; please report it, with --verbose for the traceback\n"
    assert long.stderr.startswith(f"{line}\nTraceback (most recent call last):\n")


SCRIPTS = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_every_command_line_says_its_version_and_has_both_names_for_help(script: str) -> None:
    module, _, name = SCRIPTS[script].partition(":")
    command = getattr(importlib.import_module(module), name)
    result = CliRunner().invoke(command, ["--version"], prog_name=script)
    assert (result.exit_code, result.stdout) == (0, f"{script} {mochi_aot.__version__}\n")
    short, long = (CliRunner().invoke(command, [option], prog_name=script) for option in ("-h", "--help"))
    assert short.exit_code == 0 and short.stdout == long.stdout
    assert short.stdout.startswith(f"Usage: {script} ") and "-h, --help" in short.stdout
    assert CliRunner().invoke(command, ["--no-such-option"]).exit_code == 2
