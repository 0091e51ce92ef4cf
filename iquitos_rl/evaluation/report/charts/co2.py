"""CO2 of each controller: caused by import, avoided by solar, and what unserved vehicles burn instead."""

from __future__ import annotations

from markupsafe import Markup

from iquitos_rl.evaluation.report.data import ReportData
from iquitos_rl.evaluation.report.svg import Drawing, linear_axis
from iquitos_rl.evaluation.report.texts import Texts

__all__ = ["co2_chart"]

ROW, TOP, LEFT, RIGHT = 34.0, 8.0, 10.0, 350.0
KG_PER_TONNE = 1000.0


def co2_chart(data: ReportData, texts: Texts) -> Markup:
    """Bars to the right emit, to the left avoid (t); a diamond marks the net of grid and solar."""
    drawing = Drawing(TOP + ROW * len(data.rows) + 34, texts("co2.title"), texts("co2.desc"))
    tonnes = [
        {
            key: (row.get(f"co2_{key}_kg") or 0.0) / KG_PER_TONNE
            for key in ("grid", "avoided_solar", "unserved", "net")
        }
        for row in data.rows
    ]
    low = min(0.0, *(-t["avoided_solar"] for t in tonnes))
    high = max(0.0, *(t["grid"] + t["unserved"] for t in tonnes))
    x = linear_axis(low, high, LEFT, RIGHT)
    bottom = TOP + ROW * len(data.rows)
    digits = 0 if all(float(tick).is_integer() for tick in x.ticks) else 1
    x.draw_bottom(drawing, bottom, lambda value: texts.number(value, digits), TOP)
    drawing.text(RIGHT, bottom + 30, texts("co2.axis"), "tick", "end")
    for number, (row, t) in enumerate(zip(data.rows, tonnes, strict=True)):
        y = TOP + ROW * number
        served = texts("served_short", satisfaction=texts.percent(row["ev_satisfaction"]))
        mark = "✓" if row["meets_service"] else "✗"
        net = texts("co2.net_tip", net=texts.number(t["net"], 1, sign=True))
        label = f"{texts.controller(row['controller'])} · {served} {mark}"
        if row["meets_service"]:
            label += f" · {net}"
        faded = "" if row["meets_service"] else " faded"
        parts = (
            ("co2-grid", 0.0, t["grid"]),
            ("co2-unserved", t["grid"], t["grid"] + t["unserved"]),
            ("co2-avoided", -t["avoided_solar"], 0.0),
        )
        for kind, start, end in parts:
            if x(end) - x(start) >= 0.1:
                drawing.rectangles([(x(start), y + 16, x(end) - x(start), 11)], f"fill {kind}{faded}")
        drawing.line(x(0.0), y + 14, x(0.0), y + 29, "zero")
        drawing.marker(x(t["net"]), y + 21.5, "diamond", "net", net)
        drawing.text(LEFT - 4, y + 11, label, "halo label")
    return drawing.svg()
