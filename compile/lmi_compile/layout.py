"""Text as wide as a terminal: words are not cut at its edge, and a reference stays whole."""

import textwrap
from collections.abc import Iterator, Sequence

_GAP = 2


def wrapped(text: str, width: int, indent: int | None = None) -> str:
    """`text` in lines of at most `width` columns, cut between words only.

    Args:
        text: one line.
        width: columns; a longer word, such as a reference that will be copied, stays whole.
        indent: blanks before every further line; two more than the first has, by default.
    """
    if len(text) <= width:
        return text
    blanks = len(text) - len(text.lstrip()) + 2 if indent is None else indent
    lines = textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * blanks,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def table_lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> Iterator[str]:
    """A table's lines.

    Columns that do not fit, the widest first and never the first one, stand under their row.

    Args:
        header: the columns' names; all empty where the table has none.
        rows: their cells.
        width: of the terminal, in columns; None is as wide as it takes.
    """
    sizes = [max(len(row[n]) for row in (header, *rows)) for n in range(len(header))]
    beside = list(range(len(header)))
    while width is not None and len(beside) > 1 and _total(sizes, beside) > width:
        beside.remove(max(beside[1:], key=lambda n: sizes[n]))
    named = any(header) and (len(beside) > 1 or len(header) == 1)  # else each cell has its name
    for row in (header, *rows) if named else rows:
        yield (" " * _GAP).join(row[n].ljust(sizes[n]) for n in beside).rstrip()
        under = [n for n in range(len(header)) if n not in beside and row[n] not in {"", "-"}]
        if under and row is not header:
            text = "; ".join(f"{header[n]}: {row[n]}".removeprefix(": ") for n in under)
            yield wrapped(f"    {text}", width or len(text), indent=4)


def _total(sizes: Sequence[int], beside: Sequence[int]) -> int:
    return sum(sizes[n] for n in beside) + _GAP * (len(beside) - 1)
