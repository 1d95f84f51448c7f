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
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "mochi_aot.compiler.request",
        "mochi_aot.runtime.torch.distributed.leader",
        "mochi_aot.tools.commands.compile",
        "transformers.models.t5.modeling_t5",
    ]
)


def run_forked(
    tool: str, *arguments: str, before: str = "", env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command line to its end, as subprocess.run would. `before` is code that its process runs first."""
    with TemporaryDirectory() as folder:
        started = start_forked(Path(folder), tool, *arguments, before=before, env=env)
        started.process.join()
        words, code = [f"mochi-{tool}", *arguments], started.process.exitcode
        return subprocess.CompletedProcess(words, code, started.stdout(), started.stderr())


@dataclass(frozen=True)
class Started:
    """A command line that runs; its streams go to files of these names in `folder`."""

    process: Any
    folder: Path

    def stdout(self) -> str:
        """What it has written there until now."""
        return (self.folder / "stdout").read_text()

    def stderr(self) -> str:
        """What it has written there until now."""
        return (self.folder / "stderr").read_text()


def start_forked(
    folder: Path, tool: str, *arguments: str, before: str = "", env: Mapping[str, str] | None = None
) -> Started:
    """Start a command line, whose end the caller waits for."""
    streams = [folder / name for name in ("stdout", "stderr")]
    for path in streams:
        path.touch()
    task = (tool, list(arguments), before, dict(os.environ if env is None else env), os.getcwd(), streams)
    process = FORKED.Process(target=_main, args=task)
    process.start()
    return Started(process, folder)


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
