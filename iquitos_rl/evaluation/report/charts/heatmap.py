"""Import by hour of day and month: when the site leans on the grid."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
from markupsafe import Markup

from iquitos_rl.evaluation.report.svg import Drawing
from iquitos_rl.evaluation.report.texts import Texts

__all__ = ["LEVELS", "heat_levels", "heat_map", "mean_import_kw"]

LEVELS = 8
"""Shades of the map, from next to nothing to most."""
LEFT, RIGHT, TOP, ROW = 34.0, 354.0, 6.0, 17.0
HOUR_LABELS = (0, 3, 6, 9, 12, 15, 18, 21)
MONTH_OF_DAY = np.array([(date(2001, 1, 1) + timedelta(days=day)).month for day in range(365)])


def mean_import_kw(hours: pd.DataFrame) -> pd.DataFrame:
    """Mean import (kW) of each month (rows, 1-12, those in the data) and hour of day (columns 0-23)."""
    hour = hours["hour_of_year"].to_numpy(np.int64)
    month = MONTH_OF_DAY[hour // 24 % 365]
    means = hours["grid_import_kwh"].groupby([month, hour % 24]).mean().unstack()
    return means.reindex(columns=range(24))


def heat_levels(maps: Sequence[pd.DataFrame]) -> list[float]:
    """Upper bounds (kW) of the shades: round steps up to the highest value of all maps.

    The first step is split at its quarter, so that a quiet night is not taken for a noon without import.
    """
    highest = max(float(np.nanmax(means.to_numpy())) for means in maps)
    step = max(highest, 1e-9) / (LEVELS - 1)
    size = 10.0 ** np.floor(np.log10(step))
    step = next(
        size * nice for nice in (1, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 4, 5, 6, 8, 10) if size * nice >= step
    )
    return [float(step / 4), *(float(step * (number + 1)) for number in range(LEVELS - 1))]


def heat_map(means: pd.DataFrame, levels: Sequence[float], title: str, texts: Texts) -> Markup:
    """A cell for each month and hour, shaded by the level of its mean import."""
    drawing = Drawing(TOP + ROW * len(means) + 20, title, texts("heat.desc"))
    width = (RIGHT - LEFT) / 24
    values = means.to_numpy(float)
    level = np.searchsorted(np.asarray(levels[:-1]), values, side="left")
    for shade in range(LEVELS):
        rows, columns = np.nonzero((level == shade) & ~np.isnan(values))
        drawing.rectangles(
            [
                (LEFT + width * c + 0.5, TOP + ROW * r + 0.5, width - 1, ROW - 1)
                for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
            ],
            f"fill heat{shade}",
        )
    for number, month in enumerate(means.index):
        drawing.text(LEFT - 6, TOP + ROW * number + 12.5, texts.short_months[month - 1], "tick", "end")
    bottom = TOP + ROW * len(means) + 14
    for hour in HOUR_LABELS:
        drawing.text(LEFT + width * hour, bottom, f"{hour}{texts('hour')}", "tick")
    return drawing.svg()
