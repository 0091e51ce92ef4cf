"""The sections with charts: what each shows, on which scale, and what a reader must know of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from iquitos_rl.evaluation.report.charts.days import (
    SOURCES,
    USES,
    day_chart,
    day_hours,
    day_scale,
    shown_flows,
)
from iquitos_rl.evaluation.report.charts.heatmap import heat_levels, heat_map, mean_import_kw
from iquitos_rl.evaluation.report.charts.learning import SHOWN_SCORE, learning_chart, learning_curves
from iquitos_rl.evaluation.report.charts.pareto import pareto_chart, shown_rows
from iquitos_rl.evaluation.report.charts.series import Look, look_of
from iquitos_rl.evaluation.report.charts.service import arrival_chart, vehicle_classes
from iquitos_rl.evaluation.report.data import ReportData, Row
from iquitos_rl.evaluation.report.selection import chosen_controllers, representative_days
from iquitos_rl.evaluation.report.texts import Texts

__all__ = [
    "Panel",
    "Section",
    "arrival_section",
    "days_section",
    "heat_section",
    "learning_section",
    "pareto_section",
]


@dataclass(frozen=True)
class Panel:
    """A chart with what stands above and below it."""

    chart: Markup
    title: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """Panels of one subject.

    Attributes:
        panels: its charts; none means that ``note`` says why.
        note: what a reader must know of them.
        legend: controllers with their looks.
        keys: classes of the style sheet to explain.
        levels: the shades of a heat map in words, from least to most.
    """

    panels: list[Panel]
    note: str = ""
    legend: tuple[tuple[str, Look], ...] = ()
    keys: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()


def _legend(data: ReportData, names: list[str], texts: Texts) -> tuple[tuple[str, Look], ...]:
    return tuple((texts.controller(name), look_of(name, data.rows)) for name in names)


def learning_section(data: ReportData, texts: Texts) -> Section:
    """Learning curves of the agents that have one."""
    curves = learning_curves(data)
    if not curves:
        return Section([], texts("learning.none"))
    columns = ("validation_satisfaction", "validation_score")
    panels = [
        Panel(learning_chart(data, column, texts), texts(f"learning.{column}"))
        for column in columns
        if any(frame[column].notna().any() for frame in curves.values())
    ]
    cut = any((frame["validation_score"] > SHOWN_SCORE).any() for frame in curves.values())
    short = [texts.controller(name) for name, frame in curves.items() if len(frame) == 1]
    missing = [
        texts.controller(row["controller"])
        for row in data.rows
        if row["kind"] == "agent" and row["controller"] not in curves
    ]
    notes = [
        texts("learning.note"),
        texts("learning.cut", score=SHOWN_SCORE) if cut else "",
        texts("learning.short", agents=", ".join(short)) if short else "",
        texts("learning.missing", agents=", ".join(missing)) if missing else "",
    ]
    return Section(panels, " ".join(filter(None, notes)), _legend(data, list(curves), texts))


def _served(data: ReportData, row: Row, day: int, texts: Texts) -> str:
    """Satisfaction on a day, of the whole period where departures are not known."""
    frame = data.departures.get(row["controller"])
    if frame is not None:
        of_day = frame[frame["departure_hour_of_year"].to_numpy() // 24 == day]
        if len(of_day):
            return texts("days.served", satisfaction=texts.percent(float(of_day["satisfaction"].mean())))
    return texts("days.served_period", satisfaction=texts.percent(row["ev_satisfaction"]))


def days_section(data: ReportData, texts: Texts) -> Section:
    """The typical and the cloudy day of the chosen controllers, on one scale."""
    chosen = chosen_controllers(data, data.hours.keys())
    if not chosen:
        return Section([], texts("hours.none"))
    days = representative_days(data.hours[chosen[0]["controller"]])
    if days is None:
        return Section([], texts("days.none"))
    shown = [("typical", days.typical), *([("cloudy", days.cloudy)] if days.cloudy is not None else [])]
    frames = {
        (row["controller"], day): day_hours(data.hours[row["controller"]], day)
        for row in chosen
        for _, day in shown
    }
    frames = {key: hours for key, hours in frames.items() if len(hours) == 24}
    scale = day_scale(list(frames.values()), data.bess_capacity_kwh)
    panels = []
    for kind, day in shown:
        for row in chosen:
            hours = frames.get((row["controller"], day))
            if hours is None:
                continue
            title = f"{texts.controller(row['controller'])}, {texts(f'days.{kind}')}, {texts.day(day)}"
            imported = texts("days.import", kwh=texts.number(float(hours["grid_import_kwh"].sum())))
            chart = day_chart(hours, scale, title, texts)
            panels.append(Panel(chart, title, f"{_served(data, row, day, texts)} · {imported}"))
    key = "days.note" if days.cloudy is not None else "days.note_one" if days.by_pv else "days.note_no_pv"
    note = texts(
        key,
        typical=texts.day(days.typical),
        cloudy="" if days.cloudy is None else texts.day(days.cloudy),
        count=days.count,
    )
    flows = shown_flows(list(frames.values()))
    keys = [f"flow-{kind}" for kind in (*SOURCES, *USES) if kind in flows]
    return Section(panels, note, keys=tuple(keys))


def heat_section(data: ReportData, texts: Texts) -> Section:
    """Import by hour and month of the chosen controllers, on one scale."""
    chosen = chosen_controllers(data, data.hours.keys())
    if not chosen:
        return Section([], texts("hours.none"))
    maps = {row["controller"]: mean_import_kw(data.hours[row["controller"]]) for row in chosen}
    levels = heat_levels(list(maps.values()))
    panels = []
    for row in chosen:
        title = texts.controller(row["controller"])
        note = texts("served", satisfaction=texts.percent(row["ev_satisfaction"], 1))
        panels.append(Panel(heat_map(maps[row["controller"]], levels, title, texts), title, note))
    months = max(len(means) for means in maps.values())
    note = texts("heat.note") if months > 1 else texts("heat.one_month")
    digits = 0 if all(float(level).is_integer() for level in levels) else 1
    bounds = [0.0, *levels]
    words = tuple(
        texts("range", low=texts.number(low, digits), high=texts.number(high, digits))
        for low, high in pairwise(bounds)
    )
    return Section(panels, note, levels=words)


def arrival_section(data: ReportData, texts: Texts) -> Section:
    """Satisfaction by hour of arrival, a chart for each vehicle class."""
    departures = {name: frame for name, frame in data.departures.items() if len(frame)}
    names = [row["controller"] for row in chosen_controllers(data, departures.keys())]
    if not names:
        return Section([], texts("arrival.none"))
    shown = {name: departures[name] for name in names}
    panels = [
        Panel(
            arrival_chart(data, names, vehicle_class, texts),
            texts("arrival.title", vehicle_class=vehicle_class),
            texts(
                "arrival.count",
                count=texts.number(
                    int((shown[names[0]]["vehicle_class"].astype(str) == vehicle_class).sum())
                ),
            ),
        )
        for vehicle_class in vehicle_classes(shown)
    ]
    return Section(panels, texts("arrival.note"), _legend(data, names, texts))


def pareto_section(data: ReportData, texts: Texts) -> Section:
    """Import against satisfaction, and what was left out."""
    rows, left_out = shown_rows(data)
    if not rows:
        return Section([], texts("pareto.none"))
    names = ", ".join(
        f"{texts.controller(row['controller'])} ({texts.percent(row['ev_satisfaction'])})" for row in left_out
    )
    optimum = any(row["kind"] == "optimum" for row in rows)
    frontier = data.frontier is not None and not data.frontier.empty
    notes = [
        texts("pareto.note"),
        texts("pareto.frontier") if frontier else "" if optimum else texts("pareto.no_optimum"),
        texts("pareto.left_out", names=names) if names else "",
    ]
    return Section([Panel(pareto_chart(data, texts), "")], " ".join(filter(None, notes)))
