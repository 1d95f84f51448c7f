"""`mochi-verify`: whether a bundle is whole, and whether ttnn accepts its programs, without any hardware."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.artifacts.layout import CHIP_DTYPES, DEFAULT_GEOMETRY
from mochi_aot.artifacts.machines import NAMES as MACHINE_NAMES
from mochi_aot.artifacts.machines import Chips, chips_called
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.runtime.defaults import CHIPS, SIMULATOR
from mochi_aot.tools.commands.cli import MochiCommand, json_option, print_json, print_text, simulator_option

if TYPE_CHECKING:
    from mochi_aot.runtime.ttnn.program_report import ProgramReport
    from mochi_aot.tools.commands.console import Console

DEFAULT_DTYPE = CHIP_DTYPES[0]


def _two_counts(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        prompt, negative = map(int, value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not two whole numbers with a comma between them") from None
    return prompt, negative


@click.command(cls=MochiCommand)
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--expect-id", metavar="ID", help="The id that the bundle must have, as mochi-inspect shows it.")
@click.option("--config", metavar="NAME|DIR", help="Instead of a bundle: mochi-1, or the folder of a checkpoint.")
@click.option("--mesh", metavar="RxC", help="With --config: the device mesh, rows x columns.")
@click.option("--arch", type=click.Choice(MACHINE_NAMES), help="With --config: of the chips, or a machine.")
@click.option("--geometry", metavar="HxWxF", help=f"With --config.  [default: {DEFAULT_GEOMETRY}]")
@click.option(
    "--weights-dtype",
    type=click.Choice(CHIP_DTYPES),
    help=f"With --config: of the matrices.  [default: {DEFAULT_DTYPE}]",
)
@click.option(
    "--links-dtype",
    type=click.Choice(CHIP_DTYPES),
    help=f"With --config: of what chips send each other.  [default: {DEFAULT_DTYPE}]",
)
@click.option(
    "--values",
    is_flag=True,
    help="Run the programs on known inputs and compare each instruction with its definition, on the operands that the "
    "chips hold: for a small bundle, of one or two layers and few frames.",
)
@click.option(
    "--device", type=click.Choice([CHIPS, SIMULATOR]), help=f"With --values: what they run on.  [default: {CHIPS}]"
)
@click.option("--simulate", is_flag=True, help=f"The same as --values --device {SIMULATOR}.")
@simulator_option
@click.option(
    "--prompt-tokens",
    metavar="N,M",
    callback=_two_counts,
    help="With --values: tokens of the prompt and the negative prompt.  [default: 7,40, or as many as there can be]",
)
@click.option("--program", "roles", multiple=True, type=click.Choice(ROLES), help="With --values: these programs only.")
@json_option
def main(
    bundle: Path | None,
    expect_id: str | None,
    config: str | None,
    mesh: str | None,
    arch: str | None,
    geometry: str | None,
    weights_dtype: str | None,
    links_dtype: str | None,
    values: bool,
    device: str | None,
    simulate: bool,
    prompt_tokens: tuple[int, int] | None,
    roles: tuple[str, ...],
    as_json: bool,
) -> None:
    """Verify BUNDLE: compare every byte with its hash; then, if it is for ttnn, run its programs on a mocked mesh.

    With --config the programs are compiled from a model's configuration, and need no weights. With --simulate or
    --values they run on a simulator or on chips instead, and their numbers are compared.
    Exits with 3 if a byte is wrong, and with 6 if an op is rejected, or wrong.
    """
    if bundle is None and expect_id is not None:
        raise click.UsageError("--expect-id is of a BUNDLE")
    if values or simulate:
        _check_values(
            bundle, expect_id, config, SIMULATOR if simulate else device or CHIPS, prompt_tokens, roles, as_json
        )
        return
    if device or prompt_tokens or roles:
        raise click.UsageError("--device, --prompt-tokens and --program belong to --values")
    if (bundle is None) == (config is None):
        raise click.UsageError("give a BUNDLE or --config, one of them")
    if bundle is not None and (mesh or arch or geometry or weights_dtype or links_dtype):
        options = "--mesh, --arch, --geometry, --weights-dtype and --links-dtype"
        raise click.UsageError(f"{options} belong to --config: a bundle has its own")
    chips = chips_called(arch or MACHINE_NAMES[0])
    if config is not None and mesh is None and chips.mesh is None:
        raise click.UsageError("--config needs --mesh, or a machine in --arch")
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        if bundle is not None:
            reports = _verify_bundle(bundle, expect_id, console)
        else:
            assert config is not None
            dtypes = (weights_dtype or DEFAULT_DTYPE, links_dtype or DEFAULT_DTYPE)
            reports = _verify_config(config, mesh, chips, geometry or DEFAULT_GEOMETRY, *dtypes, console)
    refused = any(report.refusal is not None for report in reports)
    _print(reports, refused, as_json)
    if refused:
        sys.exit(int(ExitCode.REFUSED))


def _check_values(
    bundle: Path | None,
    expect_id: str | None,
    config: str | None,
    device: str,
    tokens: tuple[int, int] | None,
    roles: tuple[str, ...],
    as_json: bool,
) -> None:
    if bundle is None or config is not None:
        raise click.UsageError("--values and --simulate compare the numbers of a BUNDLE: --config has no weights")
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        from mochi_aot.tools.commands.checking_values import check_values

        check_values(bundle, expect_id, device, tokens, roles, as_json, console)


def _print(reports: list["ProgramReport"], refused: bool, as_json: bool) -> None:
    from mochi_aot.tools.commands.dry_run_report import text

    if as_json:
        print_json({"accepted": not refused, "programs": [asdict(report) for report in reports]})
    elif reports:
        print_text(text(reports))


def _verify_bundle(path: Path, expect_id: str | None, console: "Console") -> list["ProgramReport"]:
    console.phase("comparing every byte with its hash")
    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.tools.commands.bundle_report import verified

    bundle = Bundle.open(path)
    verified(bundle, expect_id)
    if bundle.manifest.target != "ttnn":
        return []
    console.phase("running the programs dry")
    from mochi_aot.runtime.geometry import geometry_name
    from mochi_aot.runtime.ttnn.environment import enter_mock_mesh, tell_version
    from mochi_aot.runtime.ttnn.mocked import opened, run_dry

    tell_version(bundle)
    rows, columns = bundle.manifest.mesh
    reports: list[ProgramReport] = []
    with opened((rows, columns), bundle.manifest.mesh_settings, enter_mock_mesh(bundle)) as backend:
        for geometry in bundle.manifest.geometries:
            programs = {role: bundle.program(role, geometry) for role in ROLES if role in geometry.programs}
            reports += run_dry(
                backend, lambda names: backend.load_weights(bundle, names), programs, geometry_name(geometry)
            )
    return reports


def _verify_config(
    config: str,
    mesh: str | None,
    chips: Chips,
    geometry: str,
    weights_dtype: str,
    links_dtype: str,
    console: "Console",
) -> list["ProgramReport"]:
    console.phase("compiling the programs")
    from mochi_aot.runtime.cache import ensure_temporary_files

    ensure_temporary_files()  # before torch is imported
    from mochi_aot.compiler.from_config import model_config, programs_of_config
    from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
    from mochi_aot.compiler.partition.mesh import parse_mesh
    from mochi_aot.compiler.reference.geometry import parse_geometry
    from mochi_aot.runtime.ttnn.mocked import mocked_mesh
    from mochi_aot.runtime.ttnn.program_report import ProgramReport, Refusal

    shape = chips.mesh if mesh is None else parse_mesh(mesh)
    assert shape is not None
    size = parse_geometry(geometry)
    made = programs_of_config(
        model_config(config), size, shape, weights_dtype, links_dtype, chips.arch, with_encoder=True
    )
    console.phase("running the programs dry")
    settings = mesh_settings(shape, made.programs.values(), chips.arch)
    with mocked_mesh(shape, chips.arch) as mocked:
        reports = mocked.run(made.programs, made.weights, settings, geometry)
    failed = [ProgramReport(geometry, role, refusal=Refusal(reason)) for role, reason in made.failures.items()]
    return sorted(reports + failed, key=lambda report: list(ROLES).index(report.role))


if __name__ == "__main__":
    main()
