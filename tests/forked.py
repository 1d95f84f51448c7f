"""Command lines in processes of their own that begin with torch, transformers and the compiler imported.

They are forks of a server that has imported these, which is most of what a small compile takes. ttnn reads its
environment when it is imported: none of them has it at first.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["mochi_aot.compiler.request", "mochi_aot.tools.commands.compile"])


def run_forked(
    tool: str, *arguments: str, before: str = "", env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command line to its end, as subprocess.run would. `before` is code that its process runs first."""
    with TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdout", "stderr")]
        task = (tool, list(arguments), before, dict(os.environ if env is None else env), os.getcwd(), streams)
        process = _FORKED.Process(target=_main, args=task)
        process.start()
        process.join()
        words = [f"mochi-{tool}", *arguments]
        return subprocess.CompletedProcess(words, process.exitcode, *(path.read_text() for path in streams))  # type: ignore[arg-type]


def _main(
    tool: str,
    arguments: list[str],
    before: str,
    env: dict[str, str],
    folder: str,
    streams: list[Path],
) -> None:
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [f"mochi-{tool}", *arguments]
    assert "ttnn" not in sys.modules
    exec(before, {})
    importlib.import_module(f"mochi_aot.tools.commands.{tool}").main()
