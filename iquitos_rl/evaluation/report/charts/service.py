"""Satisfaction by hour of arrival: who is served, and who comes at the wrong time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from markupsafe import Markup

from iquitos_rl.evaluation.report.charts.series import look_of
from iquitos_rl.evaluation.report.data import ReportData
from iquitos_rl.evaluation.report.svg import Drawing, linear_axis
from iquitos_rl.evaluation.report.texts import Texts

__all__ = ["FEWEST", "arrival_chart", "satisfaction_by_arrival", "vehicle_classes"]

FEWEST = 5
"""Hours with fewer vehicles are left out: their mean says nothing."""
HEIGHT = 236.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 350.0, 14.0, 200.0
HOUR_LABELS = (0, 6, 12, 18, 24)


def vehicle_classes(departures: Mapping[str, pd.DataFrame]) -> list[str]:
    """Classes of the vehicles, the most frequent first."""
    if not departures:
        return []
    classes = pd.concat([frame["vehicle_class"].astype(str) for frame in departures.values()])
    return [str(name) for name in classes.value_counts(sort=True).index]


def satisfaction_by_arrival(departures: pd.DataFrame, vehicle_class: str) -> pd.Series:
    """Mean satisfaction by hour of arrival (0-23), of the hours with at least `FEWEST` vehicles."""
    of_class = departures[departures["vehicle_class"].astype(str) == vehicle_class]
    known = of_class[of_class["arrival_hour_of_year"].notna() & (of_class["arrival_hour_of_year"] >= 0)]
    groups = known["satisfaction"].groupby(known["arrival_hour_of_year"].astype(np.int64) % 24)
    means = groups.mean()
    return means[groups.size() >= FEWEST]


def arrival_chart(data: ReportData, controllers: list[str], vehicle_class: str, texts: Texts) -> Markup:
    """A curve for each of the controllers, which have departures; the service gate as a line."""
    title = texts("arrival.title", vehicle_class=vehicle_class)
    drawing = Drawing(HEIGHT, title, texts("arrival.desc"))
    curves = {
        name: [
            (int(hour), float(share))
            for hour, share in zip(means.index.to_numpy(), means.to_numpy(), strict=True)
        ]
        for name in controllers
        for means in [satisfaction_by_arrival(data.departures[name], vehicle_class)]
    }
    lowest = min([data.minimum_satisfaction, *(share for c in curves.values() for _, share in c)])
    y = linear_axis(max(0.0, lowest - 0.02), 1.0, BOTTOM, TOP)
    y.draw_left(drawing, LEFT, texts.percent, RIGHT)
    slot = (RIGHT - LEFT) / 24
    for hour in HOUR_LABELS:
        anchor = "end" if hour == 24 else "middle"
        drawing.text(LEFT + slot * hour, BOTTOM + 15, f"{hour}{texts('hour')}", "tick", anchor)
    drawing.text(RIGHT, BOTTOM + 31, texts("arrival.axis"), "tick", "end")
    gate = y(data.minimum_satisfaction)
    drawing.line(LEFT, gate, RIGHT, gate, "reference gate")
    words = texts("gate", gate=texts.percent(data.minimum_satisfaction))
    drawing.text(LEFT + 3, gate - 4, words, "halo note gate")
    for name, curve in curves.items():
        look = look_of(name, data.rows)
        points = [(hour, LEFT + slot * (hour + 0.5), y(share)) for hour, share in curve]
        for stretch in _stretches(points):
            drawing.polyline(stretch, f"curve {look.name}")
        for (hour, share), (_, px, py) in zip(curve, points, strict=True):
            tip = f"{texts.controller(name)}, {hour}{texts('hour')}: {texts.percent(share, 1)}"
            drawing.marker(px, py, look.marker, f"{look.name} small", tip)
    return drawing.svg()


def _stretches(points: list[tuple[int, float, float]]) -> list[list[tuple[float, float]]]:
    """Runs of hours without a gap: a line across hours without vehicles would be invented."""
    runs: list[list[tuple[float, float]]] = []
    last = None
    for hour, x, y in points:
        if last is None or hour != last + 1:
            runs.append([])
        runs[-1].append((x, y))
        last = hour
    return [run for run in runs if len(run) > 1]
