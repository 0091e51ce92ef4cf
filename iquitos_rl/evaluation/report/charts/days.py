"""A day of a controller: where each hour's energy comes from, where it goes, and what the BESS holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from iquitos_rl.evaluation.report.svg import Drawing, linear_axis
from iquitos_rl.evaluation.report.texts import Texts

__all__ = [
    "SOURCES",
    "USES",
    "Scale",
    "day_chart",
    "day_hours",
    "day_scale",
    "shown_flows",
]

SOURCES = {
    "pv": "pv_generation_kwh",
    "bess-out": "bess_discharge_kwh",
    "ev-out": "ev_discharge_kwh",
    "import": "grid_import_kwh",
}
"""What feeds the site, from the zero line upwards: class of the style sheet -> column."""
USES = {
    "load": "load_kwh",
    "ev": "ev_draw_kwh",
    "bess-in": "bess_charge_kwh",
    "export": "grid_export_kwh",
}
"""What takes it, from the zero line downwards."""

LEFT, RIGHT, TOP, BOTTOM = 40.0, 354.0, 18.0, 226.0
STRIP_TOP, STRIP_BOTTOM = 250.0, 286.0
HOUR_LABELS = (0, 6, 12, 18, 24)


def day_hours(hours: pd.DataFrame, day: int) -> pd.DataFrame:
    """The 24 hours of a day of the year."""
    return hours[hours["hour_of_year"].to_numpy() // 24 == day]


def shown_flows(days: Sequence[pd.DataFrame]) -> list[str]:
    """Classes of the flows that are not zero on all of the days."""
    return [
        kind
        for kind, column in (SOURCES | USES).items()
        if any(float(hours[column].abs().sum()) > 0 for hours in days)
    ]


@dataclass(frozen=True)
class Scale:
    """One scale for all days that are compared.

    Attributes:
        highest_kwh: the highest stack of an hour.
        full_kwh: what the BESS strip ends at; 0 leaves the strip out.
        as_soc: whether that is the BESS's capacity, so that the strip shows its state of charge.
    """

    highest_kwh: float
    full_kwh: float
    as_soc: bool


def day_scale(days: Sequence[pd.DataFrame], bess_capacity_kwh: float | None) -> Scale:
    """The scale of some days; the strip ends at the most that is stored where the capacity is not known."""
    highest_kwh = max(
        float(hours[list(side.values())].sum(axis=1).max()) for hours in days for side in (SOURCES, USES)
    )
    stored_kwh = max(
        (float(hours["bess_stored_kwh"].max()) for hours in days if "bess_stored_kwh" in hours), default=0.0
    )
    full_kwh = bess_capacity_kwh if bess_capacity_kwh and stored_kwh > 0 else stored_kwh
    return Scale(highest_kwh, full_kwh, bool(bess_capacity_kwh))


def day_chart(
    hours: pd.DataFrame,
    scale: Scale,
    title: str,
    texts: Texts,
) -> Markup:
    """Sources upwards and uses downwards (kWh in an hour: mean kW), hour by hour; the BESS below.

    Args:
        hours: the 24 hours of a day.
        scale: the same for all days that are compared.
        title: for who does not see the chart.
    """
    has_bess = scale.full_kwh > 0 and "bess_stored_kwh" in hours
    drawing = Drawing((STRIP_BOTTOM if has_bess else BOTTOM) + 22, title, texts("days.desc"))
    y = linear_axis(-scale.highest_kwh, scale.highest_kwh, BOTTOM, TOP, ticks=6, widen=False)
    y.draw_left(drawing, LEFT, lambda value: texts.number(abs(value)), RIGHT)
    slot = (RIGHT - LEFT) / 24
    for side, sign in ((SOURCES, 1.0), (USES, -1.0)):
        level: NDArray[np.float64] = np.zeros(len(hours))
        for kind, column in side.items():
            top = level + hours[column].to_numpy(float)
            edges = zip(level, top, strict=True)
            boxes = [
                (LEFT + slot * hour + 0.6, min(y(sign * a), y(sign * b)), slot - 1.2, abs(y(b) - y(a)))
                for hour, (a, b) in enumerate(edges)
            ]
            drawing.rectangles([box for box in boxes if box[3] >= 0.1], f"fill flow-{kind}")
            level = top
    drawing.line(LEFT, y(0.0), RIGHT, y(0.0), "zero")
    drawing.text(LEFT + 3, TOP - 6, texts("days.sources"), "note")
    drawing.text(LEFT + 3, BOTTOM - 3, texts("days.uses"), "halo note")
    if has_bess:
        _strip(drawing, hours["bess_stored_kwh"].to_numpy(float), scale, slot, texts)
    for hour in HOUR_LABELS:
        at = (STRIP_BOTTOM if has_bess else BOTTOM) + 14
        anchor = "end" if hour == 24 else "middle"
        drawing.text(LEFT + slot * hour, at, f"{hour}{texts('hour')}", "tick", anchor)
    return drawing.svg()


def _strip(
    drawing: Drawing, stored_kwh: NDArray[np.float64], scale: Scale, slot: float, texts: Texts
) -> None:
    """What the BESS holds at the end of each hour."""
    full = scale.full_kwh
    y = linear_axis(0.0, full, STRIP_BOTTOM, STRIP_TOP, ticks=2, widen=False)
    words = texts("days.soc") if scale.as_soc else texts("days.stored")
    drawing.text(LEFT + 3, STRIP_TOP - 5, words, "note")
    label = texts.percent(1.0) if scale.as_soc else texts.number(full)
    for value, tick in ((0.0, "0"), (full, label)):
        drawing.line(LEFT, y(value), RIGHT, y(value), "grid")
        drawing.text(LEFT - 5, y(value) + 4, tick, "tick", "end")
    points = [(LEFT + slot * (number + 1), y(float(value))) for number, value in enumerate(stored_kwh)]
    drawing.path(
        f"M{points[0][0]:.1f} {STRIP_BOTTOM}"
        + "".join(f"L{px:.1f} {py:.1f}" for px, py in points)
        + f"L{points[-1][0]:.1f} {STRIP_BOTTOM}z",
        "fill flow-bess-in soft",
    )
    drawing.polyline(points, "curve bess")
