"""HTML by construction: text is escaped where it becomes markup, and nowhere else is markup made."""

import html
from collections.abc import Iterable, Sequence
from typing import Final

from mochi_aot.tools.commands.text import plain

MAX_TEXT = 400  # characters of a name or version on the page
VOID: Final = frozenset(("meta", "rect", "path", "line", "use", "br", "col"))


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


type Content = Markup | str | int


def escaped(content: Content) -> Markup:
    """Return markup as it is, and anything else escaped, control characters written out, and cut where it is long."""
    if isinstance(content, Markup):
        return content
    text = plain(str(content))
    return Markup(html.escape(text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"))


def joined(parts: Iterable[Content]) -> Markup:
    """Return the parts one after another."""
    return Markup("".join(map(escaped, parts)))


def tag(name: str, /, *children: Content, **attributes: Content | None) -> Markup:
    """Return an element. `class_` and `for_` lose the underscore, others become hyphens; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>" if name in ("meta", "br", "col") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def table(header: Sequence[Content], rows: Iterable[Sequence[Content]], numbers: Iterable[int] = ()) -> Markup:
    """Return a table in a box of its own that scrolls; the columns `numbers` are aligned to the right."""
    right = set(numbers)

    def line(cell: str, cells: Sequence[Content], **attributes: Content) -> Markup:
        made = (tag(cell, c, class_="n" if i in right else None, **attributes) for i, c in enumerate(cells))
        return tag("tr", *made)

    head = tag("thead", line("th", header, scope="col"))
    return tag("div", tag("table", head, tag("tbody", *(line("td", row) for row in rows))), class_="scroll", tabindex=0)


def definitions(pairs: Iterable[tuple[Content, Content]]) -> Markup:
    """Return names with what they stand for."""
    return tag("dl", *(joined([tag("dt", name), tag("dd", value)]) for name, value in pairs))


def section(title: str, name: str, *children: Content, note: str = "") -> Markup:
    """Return a section of the page, with a sentence under its title that says how to read it."""
    says = [tag("p", note, class_="note")] if note else []
    return tag("section", tag("h2", title), *says, *children, id=name)
