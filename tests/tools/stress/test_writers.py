"""Two and three compiles to one output at the same time, in short: the command has the long version."""

from pathlib import Path

import pytest

from mochi_aot.tools.stress.writers import write_rounds


@pytest.mark.parametrize(("writers", "force"), [(2, False), (3, False), (3, True)])
def test_one_wins_and_the_others_say_so(tmp_path: Path, writers: int, force: bool) -> None:
    told = write_rounds(tmp_path, writers, 30, force)
    assert sum(told.values()) == 30 * writers and told["won"] >= 30
    assert told["won"] == 30 or force
    assert told["taken: being written"] > 0  # they did meet
