"""Programs that do not fit together are refused before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Placement, Program, TensorSpec
from mochi_aot.runtime.programs import check_wiring, load_programs
from tests.runtime import toy_bundle


def rename_output(program: Program, old: str, new: str) -> Program:
    outputs = [replace(item, name=new if item.name == old else item.name) for item in program.outputs]
    return replace(program, outputs=outputs)


def respec_output(program: Program, name: str, spec: TensorSpec) -> Program:
    outputs = [replace(item, spec=spec) if item.name == name else item for item in program.outputs]
    return replace(program, outputs=outputs)


def test_programs_that_fit(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    assert set(load_programs(bundle, bundle.manifest.geometries[0])) == set(toy_bundle.programs())


def test_an_input_that_nothing_makes() -> None:
    programs = toy_bundle.programs()
    programs["prepare_steps"] = rename_output(programs["prepare_steps"], "steps.1", "steps.9")
    with pytest.raises(BundleError, match=r"program denoise wants 'steps.1', which no earlier program makes"):
        check_wiring(programs)


def test_an_input_whose_maker_is_missing() -> None:
    programs = toy_bundle.programs()
    del programs["prepare_prompt"]
    with pytest.raises(BundleError, match=r"program prepare_steps wants 'prompt.0', which no earlier program makes"):
        check_wiring(programs)


@pytest.mark.parametrize("output", ["steps.0", "latents"])
def test_values_placed_in_two_ways(output: str) -> None:
    programs = toy_bundle.programs()
    role = "prepare_steps" if output == "steps.0" else "denoise"
    spec = TensorSpec("float32", [4, 4], [4, 2], [None, Placement(1, 2)])
    programs[role] = respec_output(programs[role], output, spec)
    with pytest.raises(BundleError, match=rf"program denoise wants '{output}' as TensorSpec.*but it is made as"):
        check_wiring(programs)


@pytest.mark.parametrize(
    ("role", "output"), [("encode_text", "prompt_embeds"), ("decode", "frames"), ("encode", "latents")]
)
def test_results_have_their_names(role: str, output: str) -> None:
    programs = toy_bundle.programs()
    programs[role] = rename_output(programs[role], output, "other")
    with pytest.raises(BundleError, match=f"program {role} has no output '{output}'"):
        check_wiring(programs)
