"""Any damage to a bundle is found before it runs; many more by command, see run.py."""

import subprocess
import sys
from pathlib import Path

from tests.corruption.run import places
from tests.runtime import toy_bundle


def test_each_damage_of_a_torch_bundle_ends_in_an_error(tmp_path: Path) -> None:
    """In a process of its own, as it forks."""
    toy_bundle.write_bundle(tmp_path / "b")
    assert {path.parent.name for path in places(tmp_path / "b")} == {"b", "programs", "tokenizer", "weights"}
    command = [sys.executable, "-m", "tests.corruption.run", str(tmp_path / "b"), "--number", "25"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "25 damages, 25 found, 0 faults"


def test_no_flipped_bit_of_a_manifest_is_accepted(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b")
    command = [sys.executable, "-m", "tests.corruption.run", str(tmp_path / "b"), "--flips", "500"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "500 flips of the manifest, 0 accepted\n"
