"""Tables of text: Markdown, or columns aligned by spaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

__all__ = ["Style", "figure", "text_table"]

Style: TypeAlias = Literal["markdown", "plain"]


def text_table(
    header: Sequence[str], body: Sequence[Sequence[str]], style: Style = "markdown", *, left: int = 1
) -> str:
    """Rows of text as a table.

    Parameters
    ----------
    header : sequence of str
    body : sequence of sequence of str
        Each as long as the header.
    style : {"markdown", "plain"}
    left : int
        Columns that are aligned left, from the first; the others hold figures.
    """
    widths = [max(len(cells[column]) for cells in (header, *body)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |" if style == "markdown" else "  ".join(padded).rstrip()

    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(header), *([line(rule)] if style == "markdown" else []), *map(line, body)])


def figure(value: float) -> str:
    """A figure with three digits; ``-`` for what is not there."""
    return "-" if math.isnan(value) else f"{value:.3f}"
