"""How tables look on the console: narrow enough for 80 columns, in a terminal and in a log file."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

__all__ = ["WIDTH", "plain_table"]

WIDTH = 78
"""What a table may take; also the width of the console where there is no terminal."""


def plain_table(title: str) -> Table:
    """An empty table with a title; rich draws its one line in ASCII where the terminal knows no more."""
    return Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
        min_width=min(len(title), WIDTH),  # rich would break the title at the table's own width
    )
