"""What is finished of a compile, as the next one reads it: only what was written, and one warning for the rest."""

import os
from pathlib import Path

import pytest

from mochi_aot.artifacts.journal import Journal, is_empty, read_journal
from mochi_aot.artifacts.reusable import ReusableWeight, StoredBytes


def weight(folder: Path, number: int) -> ReusableWeight:
    part = StoredBytes(folder / "new/weights/open-1.bin", 64 * number, 8, "ab" * 32)
    return ReusableWeight(f"source {number}", f"w{number}", "float32", [2], [part, part], [0, 1], synced=False)


@pytest.fixture
def weights(tmp_path: Path) -> list[ReusableWeight]:
    """Three of them are in a journal."""
    journal = Journal(tmp_path)
    assert is_empty(tmp_path) and journal.empty
    made = [weight(tmp_path, number) for number in range(3)]
    for one in made:
        journal.add(one)
    journal.close()
    assert not is_empty(tmp_path) and not journal.empty
    return made


def test_what_was_written_is_read(tmp_path: Path, weights: list[ReusableWeight]) -> None:
    assert list(read_journal(tmp_path)) == weights
    assert list(read_journal(tmp_path / "none")) == []


@pytest.mark.parametrize("bit", range(8))
def test_no_damaged_line_is_read(
    tmp_path: Path, weights: list[ReusableWeight], bit: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each byte of the second line, its end too."""
    whole = (tmp_path / "journal").read_bytes()
    first, second, _ = whole.splitlines(keepends=True)
    end = len(first) + len(second) - 1
    for place in range(len(first), end + 1):
        caplog.clear()
        changed = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
        (tmp_path / "journal").write_bytes(changed)
        kept = weights[:1] if place == end else [weights[0], weights[2]]  # without its end, the third is a part of it
        assert list(read_journal(tmp_path)) == kept
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{tmp_path}/journal is damaged: ")
        assert record.getMessage().endswith(" lines are left out, and their weights are made again")


@pytest.mark.parametrize("text", [b"\xff\xfe\n", b"[" * 100_000 + b"\n", bytes(1000) + b"\n", b"\n\n", b"{}\n7\n[]\n"])
def test_what_no_journal_ever_said(tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "journal").write_bytes(text)
    assert list(read_journal(tmp_path)) == []
    assert len(caplog.records) == 1


def test_a_line_that_was_cut_short_is_no_damage(
    tmp_path: Path, weights: list[ReusableWeight], caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(tmp_path / "journal", (tmp_path / "journal").stat().st_size - 5)
    assert list(read_journal(tmp_path)) == weights[:2]
    assert not caplog.records


def test_a_journal_that_cannot_be_read_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "journal").mkdir()
    assert list(read_journal(tmp_path)) == []
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path}/journal cannot be read (Is a directory): its weights are made again"


def test_a_journal_follows_no_planted_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "journal").symlink_to(tmp_path / "mine")
    with pytest.raises(FileExistsError):
        Journal(tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"
