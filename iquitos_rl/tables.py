"""How tables look on the console: narrow enough for 80 columns, in a terminal and in a log file."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

__all__ = ["WIDTH", "format_duration", "plain_table"]

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


def format_duration(seconds: float) -> str:
    """A duration for people: ``45 s``, ``12 min 05 s``, ``3 h 20 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
