"""Small tables and lines by which notebooks show an object, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def line(text: object) -> str:
    """A paragraph of text."""
    return f"<p>{escape(str(text))}</p>"


def bullets(texts: Iterable[object]) -> str:
    """A list of sentences; nothing for none."""
    items = "".join(f"<li>{escape(str(text))}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, most: int = 10) -> str:
    """A table, at most `most` of its rows, and below it how many there are besides.

    Example:
        >>> table(["a"], [["<b>"], ["c"]], most=1)
        '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table><p>and 1 more</p>'
    """
    head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows[:most])
    more = line(f"and {len(rows) - most:,} more") if len(rows) > most else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
