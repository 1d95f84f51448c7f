"""`mochi-doctor`: whether this host can run a bundle, told before anything of it is loaded."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mochi_aot.runtime.defaults import DEVICES
from mochi_aot.tools.commands.cli import MochiCommand, json_option

if TYPE_CHECKING:
    from mochi_aot.tools.doctor.check import Check


@click.command(cls=MochiCommand)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--device",
    type=click.Choice([device for devices in DEVICES.values() for device in devices if device != "simulator"]),
    help="What the bundle is to run on, as for mochi-run.",
)
@json_option
def main(bundle: Path, device: str | None, as_json: bool) -> None:
    """Tell whether this host can run BUNDLE: a line for each check, and what to do about those that fail.

    Nothing is loaded. For chips the mesh is opened once, in a process of its own, and some of the bundle's weights are
    read from the disk. Exits with 0 if no check failed, else with the code of the first that did: an init container
    can wait for it.
    """
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        console.phase("opening the bundle")
        from mochi_aot.artifacts.reader import Bundle
        from mochi_aot.tools.doctor.examine import examine, exit_code
        from mochi_aot.tools.doctor.host import Host

        opened = Bundle.open(bundle)
        checks = examine(opened, device, Host(), console.phase)
    code = exit_code(checks)
    _tell(opened.id, checks, int(code), as_json)
    if code:
        sys.exit(int(code))


def _tell(bundle_id: str, checks: list["Check"], code: int, as_json: bool) -> None:
    from mochi_aot.tools.commands.cli import print_json, print_text
    from mochi_aot.tools.commands.text import table

    if as_json:
        found = [check.plain() for check in checks]
        print_json({"bundle": bundle_id, "can_run": code == 0, "exit_code": code, "checks": found})
        return
    lines = [table(["check", "verdict", "found"], [[check.name, check.verdict, check.found] for check in checks])]
    lines += [f"{check.name}: {check.advice}" for check in checks if check.advice]
    print_text("\n".join(lines))


if __name__ == "__main__":
    main()
