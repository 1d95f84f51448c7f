"""`mochi-bringup`: the first meeting of a bundle and a machine, in steps, with a report to send back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.runtime.defaults import CHIPS, DEVICES
from mochi_aot.tools.commands.cli import MochiCommand, json_option, simulator_option
from mochi_aot.tools.commands.text import table

if TYPE_CHECKING:
    from mochi_aot.tools.bringup.watchdog import StepResult

STALL, LIMIT = 120.0, 300.0  # seconds without progress, and in all, after which a step is ended
NAMES = ("versions", "mesh", "load", "values", "block", "programs", "profile", "trace")


@click.command(cls=MochiCommand)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE.json", default="bringup.json", show_default=True, help="The report.")
@click.option("--device", type=click.Choice(DEVICES["ttnn"]), default=CHIPS, show_default=True, help="What to meet.")
@simulator_option
@click.option("--step", "steps", multiple=True, type=click.Choice(NAMES), help="These steps only.")
@click.option(
    "--stall",
    type=float,
    default=STALL,
    show_default=True,
    help="Seconds without progress that end a step.",
)
@click.option("--limit", type=float, default=LIMIT, show_default=True, help="Seconds that end a step.")
@click.option("--force", is_flag=True, help="Replace a report that exists.")
@json_option
def main(
    bundle: Path,
    output: str,
    device: str,
    steps: tuple[str, ...],
    stall: float,
    limit: float,
    force: bool,
    as_json: bool,
) -> None:
    """Meet a machine with BUNDLE, step by step, and write a report.

    A step that fails does not stop the others. One that gets no further is ended, and the report says which
    instruction was in flight. Exits with 5 if a step failed. docs/first-machine.md walks through it.
    """
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.runtime.errors import BackendError
        from mochi_aot.runtime.paths import check_writable
        from mochi_aot.tools.bringup.watchdog import run_step, step_command

        target = Bundle.open(bundle).manifest.target
        if target != "ttnn":
            raise BackendError(f"{bundle}: compiled for {target}; a bring-up is of bundles for ttnn")
        check_writable(Path(output), force)
        results = []
        for name in steps or NAMES:
            console.phase(f"step {name}")
            results.append(run_step(name, step_command(name, bundle, device), stall, limit))
    _finish(results, Path(output), device, as_json)


def _finish(results: list["StepResult"], output: Path, device: str, as_json: bool) -> None:
    """Write the report, show it, and exit with 5 if a step did not pass."""
    import json
    from dataclasses import asdict

    from mochi_aot.artifacts.atomic_file import replacing
    from mochi_aot.tools.commands.cli import print_json, print_text

    passed = all(result.state == "passed" for result in results)
    report: dict[str, Any] = {"passed": passed, "device": device, "steps": [asdict(result) for result in results]}
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(report)
    else:
        print_text(_text(results, output))
    if not passed:
        sys.exit(int(ExitCode.DEVICE))


def _text(results: list["StepResult"], output: Path) -> str:
    rows = [[result.name, _state(result), f"{result.seconds:.1f}"] for result in results]
    lines = [table(["step", "state", "seconds"], rows)]
    for result in results:
        if result.problem is not None:
            doing = f" (in flight: {result.in_flight})" if result.in_flight else ""
            lines.append(f"{result.name}: {result.problem}{doing}")
    return "\n".join([*lines, f"report: {output}"])


def _state(result: "StepResult") -> str:
    skipped = result.numbers.get("skipped")
    return f"skipped: {skipped}" if skipped else result.state


if __name__ == "__main__":
    main()
