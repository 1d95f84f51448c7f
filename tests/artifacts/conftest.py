from pathlib import Path

import pytest

from tests.artifacts.samples import write_bundle


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    """The sample bundle, freshly written, so that a test may damage it."""
    path = tmp_path / "sample.bundle"
    write_bundle(path)
    return path
