"""The tables of ops are closed, and are those that the compiler emits."""

from mochi_aot.compiler.ir.ops import OPS
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.distributed.collectives import collectives
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.positional import POSITIONAL


def test_the_tables_do_not_overlap() -> None:
    tables = (KERNELS, COLLECTIVES, POSITIONAL)
    assert len({*KERNELS, *COLLECTIVES, *POSITIONAL}) == sum(map(len, tables))


def test_processes_have_the_collectives_that_the_simulation_has() -> None:
    assert collectives(()).keys() == COLLECTIVES.keys()


def test_every_op_of_the_ir_can_run() -> None:
    """annotate is a note to the partitioner, and is gone when a program is lowered."""
    assert KERNELS.keys() | COLLECTIVES.keys() | POSITIONAL.keys() == OPS.keys() - {"annotate"}
