import ast
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import mochi_aot
from mochi_aot.artifacts.errors import MochiError
from mochi_aot.tools.commands.cli import EXIT_CODES, MochiCommand, print_json, print_text
from tests.runtime import toy_bundle


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
        (PermissionError(13, "Permission denied", "/x"), 7, "error: /x: Permission denied\n"),
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
            signal.raise_signal(signal.SIGTERM)
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


CLOSED = """
import os, sys
for number in map(int, sys.argv[1]):
    os.close(number)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[3:]])
"""
RUN = "import sys; from mochi_aot.tools.commands.run import main; main(sys.argv[1:])"


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_standard_streams_may_be_closed(closed: str, tmp_path: Path) -> None:
    """As some services start programs."""
    toy_bundle.write_bundle(tmp_path / "bundle")
    words = ["bundle", "--prompt", "fox", "--steps", "1", "--seed", "1", "-o", "out.mp4"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", CLOSED, closed, RUN, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 0
    assert done.stdout.startswith("out.mp4: ") == ("1" not in closed)
    assert done.stderr.startswith("open the bundle\n") == ("2" not in closed)


SLOW = {"numpy", "torch", "ttnn", "transformers", "rich", "imageio_ffmpeg", "mochi_aot.compiler"}
HELP = """
import importlib, sys
try:
    importlib.import_module(sys.argv[1]).main(sys.argv[2:])
except SystemExit as end:
    print("modules:", end.code, *sys.modules)
"""


def helps() -> list[list[str]]:
    """Every command with --help, those inside groups too."""
    found = []
    for script in sorted(SCRIPTS):
        module, _, name = SCRIPTS[script].partition(":")
        found.append([module, "--help"])
        command = getattr(importlib.import_module(module), name)
        found += [[module, inner, "--help"] for inner in getattr(command, "commands", ())]
    return found


@pytest.mark.parametrize("words", helps(), ids=" ".join)
def test_help_loads_nothing_slow_and_tells_the_exit_codes(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", HELP, *words], capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rpartition("modules:")
    assert modules.split()[0] == "0" and text.startswith("Usage: ")
    assert not SLOW & set(modules.split())
    assert " ".join(text.split()).endswith(EXIT_CODES)


@pytest.mark.parametrize("words", [["--no-such-option"], [], ["--log-format=json", "bundle", "another"]])
def test_usage_mistakes_are_json_where_json_is_asked_for(words: list[str]) -> None:
    module, _, name = SCRIPTS["mochi-inspect"].partition(":")
    result = CliRunner().invoke(getattr(importlib.import_module(module), name), [*words, "--log-format", "json"])
    assert result.exit_code == 2 and result.stdout == ""
    (line,) = map(json.loads, result.stderr.splitlines())
    assert (line["level"], line["kind"], line["exit_code"]) == ("error", "usage", 2) and line["message"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_options(tmp_path: Path) -> None:
    """With the script that docs/commands.md tells to source, and a program of that name on the path."""
    program = tmp_path / "mochi-inspect"
    program.write_text(
        f"#!{sys.executable}\nfrom mochi_aot.tools.commands.inspect import main\nmain(prog_name='mochi-inspect')\n"
    )
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    root = str(Path(__file__).parents[3])
    script = """
    eval "$(_MOCHI_INSPECT_COMPLETE=bash_source mochi-inspect)"
    COMP_WORDS=(mochi-inspect --wei); COMP_CWORD=1
    _mochi_inspect_completion mochi-inspect --wei mochi-inspect
    echo "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "PATH": path, "PYTHONPATH": root}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["--weights"]


HOSTILE, PLAIN = "a\x1b[2J\udc80", "a\\x1b[2J\\udc80"


def test_results_and_usage_errors_show_what_a_terminal_would_obey(capfd: pytest.CaptureFixture[str]) -> None:
    """A name of bytes that are no UTF-8 raises no UnicodeEncodeError either: pytest's stdout is strict, as a user's."""
    print_text(HOSTILE)
    print_json({"file": HOSTILE})
    written = capfd.readouterr().out
    assert written.splitlines()[0] == PLAIN
    assert json.loads(written.partition("\n")[2]) == {"file": HOSTILE}
    result = CliRunner().invoke(_command(click.UsageError(HOSTILE)), [])
    assert result.stderr.endswith(f"Error: {PLAIN}\n")
    result = CliRunner().invoke(_command(None), [f"--{HOSTILE}"])
    assert (result.exit_code, "\x1b" in result.stderr, f"--{PLAIN}" in result.stderr) == (2, False, True)


def test_nothing_else_writes_what_a_terminal_could_obey() -> None:
    """Of all commands and what they call, two functions and the log write to a terminal."""
    allowed = {"cli.py: print_text", "cli.py: print_json", "console.py: emit"}
    folder = Path(mochi_aot.__path__[0]) / "tools"
    seen = set()
    for path in (path for name in ("commands", "bundle", "bringup") for path in (folder / name).rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                names = {ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Name | ast.Attribute)}
                if names & {"click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write"}:
                    seen.add(f"{path.name}: {function.name}")
    assert seen == allowed
