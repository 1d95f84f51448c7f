import pytest

from tests.runtime.torch.distributed.ranks import Ranks


@pytest.fixture(scope="session")
def ranks():
    with Ranks() as made:
        yield made
