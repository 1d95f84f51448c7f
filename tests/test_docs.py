"""Links of the pages that a person reads lead somewhere, and the first page stays short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.joinpath("docs").glob("*.md")])
MOST_LINES = 120  # of the README


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings have where Markdown is shown."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """The targets of a page's links that are not addresses on the web."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]


def in_tree(target: Path) -> Path:
    """Where a link leads: an unpacked source distribution has the package's folders below mochi_aot alone."""
    inner = ROOT / "mochi_aot" / target.relative_to(ROOT) if target.is_relative_to(ROOT) else target
    return target if target.exists() else inner


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(page):
        path, _, fragment = link.partition("#")
        target = in_tree((page.parent / path).resolve()) if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# What a `Title`, is\n[a](#what-a-title-is) [b](#no) [c](absent.md) [d](page.md) [e](https://x.y/z)\n"
    )
    assert broken(page) == ["#no", "absent.md"]


def test_every_page_is_reached_from_the_readme() -> None:
    reached, open_ = set(), [ROOT / "README.md"]
    while open_:
        page = open_.pop().resolve()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            open_ += [page.parent / link.partition("#")[0] for link in links(page) if link.partition("#")[0]]
    assert {page.resolve() for page in PAGES} == reached


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES
