"""The ladder as two charts of the same order: who serves the vehicles, and who scores."""

from __future__ import annotations

from markupsafe import Markup

from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.report.charts.series import look_of
from iquitos_rl.evaluation.report.data import ReportData
from iquitos_rl.evaluation.report.selection import best_of
from iquitos_rl.evaluation.report.svg import Drawing, linear_axis
from iquitos_rl.evaluation.report.texts import Texts
from iquitos_rl.objectives import OBJECTIVES

__all__ = ["score_chart", "service_chart"]

ROW = 34.0
TOP = 22.0
LEFT, RIGHT = 6.0, 352.0


def _height(data: ReportData) -> float:
    return TOP + ROW * len(data.rows) + 22


def _reference(drawing: Drawing, x: float, words: str, kind: str, rows: int, anchor: str) -> None:
    """A level with its name on top; drawn beside the bars only, so that it crosses no name."""
    if words:
        drawing.text(x, TOP - 10, words, f"note {kind}", anchor)
    drawing.line(x, TOP - 6, x, TOP - 1, f"reference {kind}")
    for number in range(rows):
        y = TOP + ROW * number
        drawing.line(x, y + 14, x, y + 30, f"reference {kind}")


def service_chart(data: ReportData, texts: Texts) -> Markup:
    """Satisfaction of each controller, with the service gate and 95 % intervals."""
    drawing = Drawing(_height(data), texts("ladder.service"), texts("ladder.service.desc"))
    known = [row["ev_satisfaction"] for row in data.rows if row["ev_satisfaction"] is not None]
    axis = linear_axis(min([*known, data.minimum_satisfaction, 0.7]), 1.0, LEFT, RIGHT)
    bottom = TOP + ROW * len(data.rows)
    axis.draw_bottom(drawing, bottom, texts.percent)
    gate = texts("gate", gate=texts.percent(data.minimum_satisfaction))
    _reference(drawing, axis(data.minimum_satisfaction), gate, "gate", len(data.rows), "middle")
    optima = [row["ev_satisfaction"] for row in data.rows if row["kind"] == "optimum"]
    possible = [value for value in optima if value is not None]
    if possible:  # optima of other goals than the score may be there too
        _reference(drawing, axis(max(possible)), "", "limit", len(data.rows), "end")
    for number, row in enumerate(data.rows):
        y = TOP + ROW * number
        value = row["ev_satisfaction"]
        look = look_of(row["controller"], data.rows)
        mark = "" if value is None else " ✓" if row["meets_service"] else " ✗"
        label = f"{texts.controller(row['controller'])} · {texts.percent(value, 1)}{mark}"
        drawing.text(LEFT, y + 11, label, "label")
        drawing.line(LEFT, y + 22, RIGHT, y + 22, "grid")
        if value is None:
            continue
        interval = (row.get("intervals") or {}).get("ev_satisfaction")
        if interval:
            drawing.line(axis(max(interval[0], axis.low)), y + 22, axis(interval[1]), y + 22, "interval")
        kind = look.name if row["meets_service"] else f"{look.name} hollow"
        drawing.marker(axis(value), y + 22, look.marker, kind, label)
    return drawing.svg()


def score_chart(data: ReportData, texts: Texts) -> Markup:
    """Score of each controller as the sum of its five components, with no control and the optimum marked."""
    drawing = Drawing(_height(data), texts("ladder.score"), texts("ladder.score.desc"))
    highest = max(1.0, *(row["score"] for row in data.rows))
    axis = linear_axis(0.0, highest, LEFT, RIGHT, ticks=6)
    bottom = TOP + ROW * len(data.rows)
    axis.draw_bottom(drawing, bottom, lambda value: texts.number(value, 1))
    optimum = best_of(data.rows, "optimum")
    for number, row in enumerate(data.rows):
        y = TOP + ROW * number
        mark = "" if row["meets_service"] else f" · {texts('no_service')}"
        label = f"{texts.controller(row['controller'])} · {texts.number(row['score'], 3)}{mark}"
        drawing.text(LEFT, y + 11, label, "label")
        x = axis(0.0)
        faded = "" if row["meets_service"] else " faded"
        for component in OBJECTIVES:
            width = axis((row.get("score_components") or {}).get(component) or 0.0) - axis(0.0)
            if width > 0:
                drawing.rectangles([(x, y + 16, width, 11)], f"fill score-{component}{faded}")
            x += width
        interval = (row.get("intervals") or {}).get("score")
        if interval:
            drawing.line(axis(interval[0]), y + 21.5, axis(interval[1]), y + 21.5, "interval")
    if optimum is not None:
        _reference(drawing, axis(optimum["score"]), texts("limit"), "limit", len(data.rows), "end")
    _reference(drawing, axis(1.0), f"{texts.controller(BASELINE)} = 1", "base", len(data.rows), "end")
    return drawing.svg()
