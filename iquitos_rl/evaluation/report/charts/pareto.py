"""Import against satisfaction: what each controller trades, and what is not possible at all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import pandas as pd
from markupsafe import Markup

from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.report.charts.series import look_of
from iquitos_rl.evaluation.report.data import ReportData, Row
from iquitos_rl.evaluation.report.svg import CHARACTER_WIDTH, Axis, Drawing, linear_axis
from iquitos_rl.evaluation.report.texts import Texts

__all__ = ["FAR_BELOW", "pareto_chart", "shown_rows"]

FAR_BELOW = 0.25
"""Controllers further below the service gate are left out of the plot (and named): they would flatten it."""
HEIGHT = 340.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 350.0, 24.0, 290.0
KWH_PER_MWH = 1000.0
LINE_HEIGHT = 13.0
Box = tuple[float, float, float, float]


def shown_rows(data: ReportData) -> tuple[list[Row], list[Row]]:
    """Rows in the plot, and those left out because they serve too little (no control always stays)."""
    known: list[Row] = [row for row in data.rows if row["ev_satisfaction"] is not None]
    lowest = data.minimum_satisfaction - FAR_BELOW

    def shown(row: Row) -> bool:
        return bool(row["ev_satisfaction"] >= lowest or row["controller"] == BASELINE)

    return [row for row in known if shown(row)], [row for row in known if not shown(row)]


def pareto_chart(data: ReportData, texts: Texts) -> Markup:
    """A point for each controller, the optimum's frontier, and the service gate."""
    rows, _ = shown_rows(data)
    drawing = Drawing(HEIGHT, texts("pareto.title"), texts("pareto.desc"))
    satisfactions = [row["ev_satisfaction"] for row in rows]
    imports = [row["grid_import_kwh"] / KWH_PER_MWH for row in rows]
    x = linear_axis(min([*satisfactions, data.minimum_satisfaction]) - 0.01, 1.0, LEFT, RIGHT, ticks=6)
    frontier = _frontier(data.frontier, x.low)
    imports += [mwh for _, mwh in frontier]
    low, high = min(imports), max(imports)
    room = 0.08 * (high - low)
    y = linear_axis(max(0.0, low - room), high + room, BOTTOM, TOP)
    y.draw_left(drawing, LEFT, lambda v: texts.number(v, 0 if y.high >= 10 else 1), RIGHT)
    x.draw_bottom(drawing, BOTTOM, texts.percent)
    drawing.text(LEFT - 40, TOP - 12, texts("pareto.y"), "tick")
    drawing.text(RIGHT, BOTTOM + 32, texts("pareto.x"), "tick", "end")
    taken: list[Box] = []
    gate = x(data.minimum_satisfaction)
    if frontier:
        points = [(x(s), y(mwh)) for s, mwh in frontier]
        area = [(points[0][0], BOTTOM), *points, (points[-1][0], BOTTOM)]
        drawing.path("M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in area) + "z", "fill impossible")
        drawing.polyline(points, "curve limit")
        words = texts("pareto.impossible")
        width = CHARACTER_WIDTH * len(words)
        left = points[0][0] + 6
        if left < gate < left + width:
            left = gate + 6
        drawing.text(left, BOTTOM - 8, words, "note")
        taken.append((left, BOTTOM - 20, left + width, BOTTOM - 4))
        taken += _along(points)
    drawing.line(gate, TOP, gate, BOTTOM, "reference gate")
    words = texts("gate", gate=texts.percent(data.minimum_satisfaction))
    drawing.text(gate - 4, TOP + 10, words, "halo note gate", "end")
    taken.append((gate - 4 - CHARACTER_WIDTH * len(words), TOP - 2, gate, TOP + 14))
    _points(drawing, data, rows, x, y, taken, texts)
    return drawing.svg()


def _frontier(frontier: pd.DataFrame | None, lowest: float) -> list[tuple[float, float]]:
    """(satisfaction, MWh) of the frontier within the plot, by rising satisfaction."""
    if frontier is None or frontier.empty:
        return []
    within = frontier[frontier["ev_satisfaction"] >= lowest].sort_values("ev_satisfaction")
    return [
        (float(s), float(kwh) / KWH_PER_MWH)
        for s, kwh in zip(within["ev_satisfaction"], within["grid_import_kwh"], strict=True)
    ]


def _along(points: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes along a line: a label keeps off it, but rather crosses it than leaves its point."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(points):
        count = max(1, round(abs(x2 - x1) / 6))
        for number in range(count + 1):
            x, y = x1 + (x2 - x1) * number / count, y1 + (y2 - y1) * number / count
            boxes.append((x - 1, y - 1, x + 1, y + 1))
    return boxes


def _points(
    drawing: Drawing,
    data: ReportData,
    rows: Sequence[Row],
    x: Axis,
    y: Axis,
    taken: list[Box],
    texts: Texts,
) -> None:
    at = [(x(row["ev_satisfaction"]), y(row["grid_import_kwh"] / KWH_PER_MWH)) for row in rows]
    taken += [(px - 6, py - 6, px + 6, py + 6) for px, py in at]
    for row, (px, py) in zip(rows, at, strict=True):
        intervals = row.get("intervals") or {}
        if "ev_satisfaction" in intervals:
            left, right = (x(max(x.low, min(x.high, share))) for share in intervals["ev_satisfaction"])
            drawing.line(left, py, right, py, "interval")
            taken.append((left, py - 6, right, py + 6))
        if "grid_import_kwh" in intervals:
            ends = [max(y.low, min(y.high, kwh / KWH_PER_MWH)) for kwh in intervals["grid_import_kwh"]]
            drawing.line(px, y(ends[0]), px, y(ends[1]), "interval")
            taken.append((px - 3, y(ends[1]), px + 3, y(ends[0])))
    for row, (px, py) in zip(rows, at, strict=True):
        look = look_of(row["controller"], data.rows)
        label = texts.controller(row["controller"])
        mwh = texts.number(row["grid_import_kwh"] / KWH_PER_MWH, 1)
        tip = f"{label}: {texts.percent(row['ev_satisfaction'], 1)}, {mwh} MWh"
        kind = look.name if row["meets_service"] else f"{look.name} hollow"
        drawing.marker(px, py, look.marker, kind, tip)
        lx, ly, anchor, box = _place(px, py, CHARACTER_WIDTH * len(label), taken)
        taken.append(box)
        drawing.text(lx, ly, label, f"halo label {look.name}-text", anchor)


def _place(px: float, py: float, width: float, taken: Sequence[Box]) -> tuple[float, float, str, Box]:
    """Where a label of this width fits beside its point: the place that overlaps least with what is there."""
    best: tuple[float, tuple[float, float, str, Box]] | None = None
    shifts = (0.0, -11.0, 11.0, -22.0, 22.0, -33.0, 33.0)
    for dy, anchor in product(shifts, ("start", "end", "middle")):
        if anchor == "middle" and abs(dy) < 11:
            continue
        lx = px + {"start": 9.0, "end": -9.0, "middle": 0.0}[anchor]
        ly = py + 4 + dy + (0.0 if anchor != "middle" else (6.0 if dy > 0 else -2.0))
        left = {"start": lx, "end": lx - width, "middle": lx - width / 2}[anchor]
        box = (left, ly - LINE_HEIGHT + 3, left + width, ly + 3)
        outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - RIGHT - 6) + max(0.0, box[3] - BOTTOM)
        overlap = sum(
            max(0.0, min(box[2], t[2]) - max(box[0], t[0])) * max(0.0, min(box[3], t[3]) - max(box[1], t[1]))
            for t in taken
        )
        cost = overlap + 50 * outside + 3 * abs(dy)
        if best is None or cost < best[0]:
            best = (cost, (lx, ly, anchor, box))
    assert best is not None
    return best[1]
