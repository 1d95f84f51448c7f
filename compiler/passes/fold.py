"""Turns what another program computes once into constants."""

from collections.abc import Mapping

import numpy as np

from mochi_aot.compiler.ir.program import Computed, Constant, Param, Program


def fold_computed(program: Program, arrays: Mapping[tuple[str, str], np.ndarray]) -> Program:
    """Return `program` with each `Computed` recipe replaced by the array of its (program, output)."""

    def folded(param: Param) -> Param:
        if isinstance(param.recipe, Computed):
            return Param(param.value, Constant(arrays[param.recipe.program, param.recipe.output]))
        return param

    params = [folded(param) for param in program.params]
    return Program(program.name, program.inputs, params, program.ops, program.outputs, program.mesh)
