"""What torchrun's variables say, and what they may not say."""

import pytest

from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.world import World

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}


def test_a_rank() -> None:
    assert World.from_environment(TORCHRUN) == World(rank=5, size=8, local_rank=1)


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "8"}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "0"}])
def test_a_process_that_is_alone(environment: dict[str, str]) -> None:
    assert World.from_environment(environment) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "8"), ("RANK", "-1"), ("RANK", "x"), ("LOCAL_RANK", "6"), ("MASTER_PORT", ""), ("WORLD_SIZE", "0")],
)
def test_numbers_that_are_none(name: str, value: str) -> None:
    with pytest.raises(BackendError, match=f"{name}={value}(,|;).* torchrun or --launch"):
        World.from_environment(TORCHRUN | {name: value})


@pytest.mark.parametrize("name", ["LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_variables_that_are_missing(name: str) -> None:
    with pytest.raises(BackendError, match=f"no {name}"):
        World.from_environment({key: value for key, value in TORCHRUN.items() if key != name})


def test_a_process_for_each_device() -> None:
    World(0, 8, 0).check_mesh(2, 4)
    with pytest.raises(BackendError, match="mesh is 2x2, but 8 processes were started; start 4, one for each"):
        World(0, 8, 0).check_mesh(2, 2)
