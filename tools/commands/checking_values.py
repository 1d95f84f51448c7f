"""What `mochi-verify --values` does: runs programs on chips or a simulator, and compares each instruction."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.errors import BackendError
from mochi_aot.tools.commands.bundle_report import verified
from mochi_aot.tools.commands.cli import keep_stdout_for_results, print_json, print_text
from mochi_aot.tools.commands.values_report import summary, text

if TYPE_CHECKING:
    from mochi_aot.tools.commands.console import Console
    from mochi_aot.tools.golden.check import ValuesReport

_LOGGER = logging.getLogger("mochi_aot")
DEFAULT_TOKENS = 7, 40  # of a prompt and a negative prompt


def check_values(
    path: Path,
    expect_id: str | None,
    device: str,
    tokens: tuple[int, int] | None,
    roles: Sequence[str],
    as_json: bool,
    console: "Console",
) -> None:
    """Run the programs of these `roles` on a device and print how instructions agree; exit with 6 if one departs.

    Raises BackendError where the bundle is not for ttnn, torch is not installed, or the device cannot be used.
    """
    console.phase("comparing every byte with its hash")
    bundle = Bundle.open(path)
    verified(bundle, expect_id)
    longest = bundle.manifest.text_length
    tokens = tokens or (min(DEFAULT_TOKENS[0], longest), min(DEFAULT_TOKENS[1], longest))
    _require(bundle, tokens, roles)
    keep_stdout_for_results()
    console.phase("opening the mesh")
    from mochi_aot.runtime.targets import open_backend

    backend = open_backend(bundle, device)
    reports = _reports(backend, bundle, tokens, roles, console)
    right = all(report.right for report in reports)
    console.close()
    if as_json:
        print_json({"right": right, "device": device, "programs": [asdict(report) for report in reports]})
    else:
        print_text(text(reports))
    if not right:
        sys.exit(int(ExitCode.REFUSED))


def _require(bundle: Bundle, tokens: tuple[int, int], roles: Sequence[str]) -> None:
    """Raise what `check_values` does, before anything is opened; UsageError for what the bundle does not have."""
    manifest = bundle.manifest
    if manifest.target != "ttnn":
        raise BackendError(f"{bundle.path}: compiled for {manifest.target}; instructions are compared for ttnn only")
    longest = manifest.text_length
    if not all(0 <= count <= longest for count in tokens):
        raise click.UsageError(f"--prompt-tokens {tokens[0]},{tokens[1]}: the bundle's prompts have 0 to {longest}")
    held = {role for geometry in manifest.geometries for role in geometry.programs}
    missing = [role for role in roles if role not in held]
    if missing:
        raise click.UsageError(f"--program {missing[0]}: the bundle has {', '.join(sorted(held))}")
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        problem = "definitions are computed by torch, which is not installed: pip install 'mochi-aot[torch]'"
        raise BackendError(problem) from None


def _reports(
    backend: object, bundle: Bundle, tokens: tuple[int, int], roles: Sequence[str], console: "Console"
) -> list["ValuesReport"]:
    """Return the reports, each told as soon as it is there: on a simulator a program may take an hour."""
    from mochi_aot.artifacts.roles import ROLES
    from mochi_aot.runtime.ttnn.backend import TtnnBackend
    from mochi_aot.tools.golden.check import check_programs
    from mochi_aot.tools.golden.known_run import KnownRun

    def tell(program: Program, index: int) -> None:
        if index == 0:
            console.phase(f"comparing {program.name}")
        console.update(index, len(program.instructions), "instructions")

    assert isinstance(backend, TtnnBackend)
    reports = []
    for report in check_programs(KnownRun(backend, bundle, tokens), roles or ROLES, tell):
        reports.append(report)
        _LOGGER.info("%s", summary(report))
    return reports
