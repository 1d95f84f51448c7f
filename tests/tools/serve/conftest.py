"""What the tests of a running server share."""

from pathlib import Path

import pytest

from tests.runtime import toy_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's, for the target torch, as `toy.bundle`."""
    path = tmp_path_factory.mktemp("bundle") / "toy.bundle"
    toy_bundle.write_bundle(path)
    return path
