"""What the compiler models of a bundle's programs, where it is installed: otherwise why the page is without it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.tools.page.contents import Contents

if TYPE_CHECKING:
    from mochi_aot.compiler.explain import Explanation
    from mochi_aot.compiler.rebuilt import Rebuilt


@dataclass(frozen=True)
class Modelled:
    """Programs of the first geometry by role, as far as they could be compiled again, and reasons why others were not.

    `runs` says how often a video runs a program, once where it does not say. `explanation` has the plans considered.
    """

    programs: "dict[str, Rebuilt]" = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    runs: dict[str, int] = field(default_factory=dict)
    explanation: "Explanation | None" = None


def model(contents: Contents, explain: bool) -> Modelled:
    """Compile the programs of the first geometry again, without weights; with `explain`, under other plans too.

    Whatever stands in the way is a reason on the page, and nothing is raised.
    """
    try:
        return _model(contents, explain)
    except ModuleNotFoundError as error:
        return Modelled(reasons=[f"{error.name} is not installed here; it comes with pip install 'mochi-aot[compile]'"])
    except Exception as error:  # noqa: BLE001  sizes that no model has end anywhere in the trace; the page stands without
        return Modelled(reasons=[f"the model cannot be traced again: {error}"])


def _model(contents: Contents, explain: bool) -> Modelled:
    from mochi_aot.compiler.partition.choose import RUNS
    from mochi_aot.compiler.rebuilt import Rebuilder

    if not contents.sizes:
        return Modelled(reasons=["the bundle has no programs"])
    sized, programs, reasons = contents.sizes[0], {}, []
    rebuilder = Rebuilder(contents.manifest, sized.geometry)
    for role, program in sized.programs.items():
        try:
            programs[role] = rebuilder.program(role, program)
        except MochiError as error:
            reasons.append(str(error))
    return Modelled(programs, reasons, dict(RUNS), rebuilder.explain() if explain else None)
