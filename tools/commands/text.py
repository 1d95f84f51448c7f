"""Numbers and tables as people read them."""


def plain(text: str) -> str:
    """Text in which what a terminal would obey, as escapes, is written out. Line ends and tabs stay."""
    return "".join(char if char in "\n\t" or char.isprintable() else ascii(char)[1:-1] for char in text)


def human_bytes(count: float) -> str:
    """Bytes with a decimal unit: 1 GB is 1e9 bytes."""
    return human_count(count, "B")


def human_count(count: float, unit: str) -> str:
    """Return a count with three significant digits and a decimal prefix."""
    prefixes = iter(("", "k", "M", "G", "T", "P"))
    prefix = next(prefixes)
    while count >= 999.5 and prefix != "P":
        count, prefix = count / 1000, next(prefixes)
    return f"{count:.3g} {prefix}{unit}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns aligned with spaces; those whose cells all start with a digit are aligned to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() for cell in column[1:]) for column in columns]

    def line(cells: list[str]) -> str:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join(line(row) for row in [header, *rows])
