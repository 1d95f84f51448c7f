"""The table of roles, against what the documentation of the bundle and of the pipeline says."""

from mochi_aot.artifacts.roles import RATES, ROLES, roles_of


def test_how_often_each_program_runs() -> None:
    assert {name: role.rate for name, role in ROLES.items()} == {
        "encode_text": "prompt",
        "prepare_prompt": "prompt",
        "prepare_steps": "step",
        "denoise": "latent",
        "decode": "latent",
        "encode": "latent",
    }


def test_a_program_takes_what_earlier_ones_of_its_module_make() -> None:
    """Rates within a module differ: they tell its programs apart."""
    for name, role in ROLES.items():
        module = roles_of(role.module)
        assert list(module)[-1] == role.module and len({other.rate for other in module.values()}) == len(module)
        assert set(role.sources) == set(list(module)[: list(module).index(name)])


def test_every_rate_is_known() -> None:
    assert {rate for role in ROLES.values() for rate in role.inputs.values()} <= set(RATES)
