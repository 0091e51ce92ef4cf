"""Learning curves: score and satisfaction on the validation year while agents learn."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from markupsafe import Markup

from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.report.charts.series import look_of
from iquitos_rl.evaluation.report.data import ReportData
from iquitos_rl.evaluation.report.selection import best_of
from iquitos_rl.evaluation.report.svg import Drawing, linear_axis
from iquitos_rl.evaluation.report.texts import Texts

__all__ = ["SHOWN_SCORE", "learning_chart", "learning_curves"]

HEIGHT = 250.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 350.0, 26.0, 206.0
SHOWN_SCORE = 1.5
"""Scores above this are cut off: the first, untrained ones would flatten all that follows."""


def learning_curves(data: ReportData) -> dict[str, pd.DataFrame]:
    """The curves that have at least one point."""
    return {name: frame for name, frame in data.learning.items() if len(frame)}


def learning_chart(data: ReportData, column: str, texts: Texts) -> Markup:
    """One curve for each agent; column ``validation_score`` or ``validation_satisfaction``."""
    curves = learning_curves(data)
    title = texts(f"learning.{column}")
    drawing = Drawing(HEIGHT, title, texts("learning.desc", agents=", ".join(map(texts.controller, curves))))
    steps = max(float(frame["env_steps"].max()) for frame in curves.values())
    x = linear_axis(0.0, max(steps, 1.0), LEFT, RIGHT, ticks=4, widen=False)
    marks = _score_marks(data, texts) if column == "validation_score" else _service_marks(data, texts)
    values = pd.concat([frame[column] for frame in curves.values()]).dropna().tolist()
    values += [value for value, _, _ in marks]
    high = min(max(values), SHOWN_SCORE) if column == "validation_score" else 1.0
    low = min(values) - (0.06 * (high - min(values)) if column == "validation_score" else 0.0)
    y = linear_axis(max(0.0, low), high, BOTTOM, TOP)
    y.draw_left(drawing, LEFT, _tick(column, texts), RIGHT)
    x.draw_bottom(drawing, BOTTOM, lambda value: texts.number(value))
    drawing.text(RIGHT, BOTTOM + 32, texts("learning.steps"), "tick", "end")
    for value, _, kind in marks:
        drawing.line(LEFT, y(value), RIGHT, y(value), f"reference {kind}")
    for name, frame in curves.items():
        known = frame[["env_steps", column]].dropna()
        look = look_of(name, data.rows)
        points = [
            (x(float(at)), y(min(float(value), y.high)))
            for at, value in zip(known["env_steps"], known[column], strict=True)
        ]
        if not points:
            continue
        drawing.polyline(points, f"curve {look.name}")
        drawing.marker(*points[-1], look.marker, look.name, texts.controller(name))
    for value, words, kind in marks:
        # Untrained agents start far from all levels but no control's: names stand left, only its right.
        # The limit of the score lies below the other levels, and so does its name.
        below = kind == "limit" and column == "validation_score"
        at = y(value) + (12 if below else -4)
        where, anchor = (RIGHT - 8, "end") if kind == "base" else (LEFT + 10, "start")
        drawing.text(where, at, words, f"halo note {kind}", anchor)
    return drawing.svg()


def _tick(column: str, texts: Texts) -> Callable[[float], str]:
    return texts.percent if column == "validation_satisfaction" else lambda value: texts.number(value, 2)


def _score_marks(data: ReportData, texts: Texts) -> list[tuple[float, str, str]]:
    marks = [(1.0, f"{texts.controller(BASELINE)} = 1", "base")]
    rule, optimum = best_of(data.rows, "rule"), best_of(data.rows, "optimum")
    if rule is not None:
        marks.append((rule["score"], texts.controller(rule["controller"]), "rule"))
    if optimum is not None:
        marks.append((optimum["score"], texts("limit"), "limit"))
    return marks


def _service_marks(data: ReportData, texts: Texts) -> list[tuple[float, str, str]]:
    gate = data.minimum_satisfaction
    marks = [(gate, texts("gate", gate=texts.percent(gate)), "gate")]
    optimum = best_of(data.rows, "optimum")
    if optimum is not None and optimum["ev_satisfaction"] is not None:
        marks.append((optimum["ev_satisfaction"], texts("limit"), "limit"))
    return marks
