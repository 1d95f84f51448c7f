"""docs/ttnn.md has each known defect."""

from pathlib import Path

from mochi_aot.artifacts.ttnn_defects import DEFECTS

PAGE = Path(__file__).parents[2].joinpath("docs", "ttnn.md").read_text()


def test_the_page_lists_the_defects_of_the_table_and_no_others() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| `") and "-" in line]
    assert rows == [f"`{defect.name}`" for defect in DEFECTS]
