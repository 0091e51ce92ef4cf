"""Charts: what they draw is where the data is, and every one is XML with a title and a description."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from iquitos_rl.evaluation.report.charts.co2 import co2_chart
from iquitos_rl.evaluation.report.charts.days import day_chart, day_hours, day_scale, shown_flows
from iquitos_rl.evaluation.report.charts.heatmap import LEVELS, heat_levels, mean_import_kw
from iquitos_rl.evaluation.report.charts.ladder import score_chart, service_chart
from iquitos_rl.evaluation.report.charts.pareto import pareto_chart, shown_rows
from iquitos_rl.evaluation.report.charts.series import look_of
from iquitos_rl.evaluation.report.charts.service import satisfaction_by_arrival, vehicle_classes
from iquitos_rl.evaluation.report.svg import Drawing, linear_axis
from iquitos_rl.evaluation.report.texts import load_texts
from tests.evaluation.report.report_data import (
    agent,
    departures,
    hours,
    ladder,
    optimum,
    report_data,
    row,
)

TEXTS = load_texts("en")


def boxes(svg: str, kind: str) -> list[tuple[float, float, float, float]]:
    """The rectangles (x, y, width, height) of a class."""
    number = r"(-?[\d.]+)"
    found = []
    for path in ElementTree.fromstring(svg).iter("path"):
        if kind in path.attrib["class"].split():
            found += re.findall(rf"M{number} {number}h{number}v{number}", path.attrib["d"])
    return [tuple(map(float, box)) for box in found]  # type: ignore[misc]


def test_an_axis_maps_its_ends_and_marks_round_values():
    axis = linear_axis(0.0, 0.93, 100.0, 300.0, ticks=6)
    assert list(axis.ticks) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert axis(0.0) == 100.0
    assert axis(1.0) == 300.0
    assert axis(0.25) == pytest.approx(150.0)


def test_an_axis_is_not_widened_for_a_rounding_error():
    assert linear_axis(0.0, 1.0000000001, 0.0, 1.0, ticks=6).high == 1.0


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0])
def test_an_axis_of_one_value_has_room(value):
    axis = linear_axis(value, value, 0.0, 100.0)
    assert axis.low < value < axis.high
    assert 0 < axis(value) < 100


def test_text_in_a_drawing_is_escaped():
    drawing = Drawing(10, "<title>", "a & b")
    drawing.text(0, 0, "<script>")
    drawing.marker(0, 0, "circle", "rule", "x < y")
    root = ElementTree.fromstring(drawing.svg())
    assert root.findtext("title") == "<title>"
    assert root.findtext("desc") == "a & b"
    assert root.findtext("text") == "<script>"
    assert root.findtext("path/title") == "x < y"


def test_a_day_is_balanced_about_the_zero_line():
    day = day_hours(hours(), 4)  # 30 kWh of PV at noon, 10 kWh of load, 5 kWh to vehicles from 20 h
    scale = day_scale([day], None)
    svg = day_chart(day, scale, "a day", TEXTS)
    up = sum(box[3] for kind in ("flow-pv", "flow-import") for box in boxes(svg, kind))
    down = sum(box[3] for kind in ("flow-load", "flow-ev", "flow-export") for box in boxes(svg, kind))
    assert up == pytest.approx(down, abs=3.0)
    (pv,) = boxes(svg, "flow-pv")
    assert pv[3] == pytest.approx(104.0, abs=0.2)  # 30 kWh is the highest stack: half of the plot
    assert len(boxes(svg, "flow-ev")) == 4
    assert boxes(svg, "flow-bess-in") == []


def test_only_flows_that_occur_are_explained():
    assert shown_flows([day_hours(hours(), 4)]) == ["pv", "import", "load", "ev", "export"]


def test_the_battery_strip_shows_per_cent_only_where_the_capacity_is_known():
    day = day_hours(hours(), 0)
    with_capacity = day_chart(day, day_scale([day], 600.0), "a day", TEXTS)
    assert "state of charge" in with_capacity
    without = day_chart(day, day_scale([day], None), "a day", TEXTS)
    assert "kWh stored" in without
    empty = day.assign(bess_stored_kwh=0.0)
    assert "battery" not in day_chart(empty, day_scale([empty], 600.0), "a day", TEXTS).split("</desc>")[1]


def test_the_heat_map_has_the_mean_of_each_month_and_hour():
    flows = hours([0.0] * 40)  # 31 days of January and 9 of February
    flows["grid_import_kwh"] = np.where(flows["hour_of_year"] < 31 * 24, 10.0, 20.0)
    flows.loc[0, "grid_import_kwh"] = 41.0
    means = mean_import_kw(flows)
    assert list(means.index) == [1, 2]
    assert means.loc[1, 0] == pytest.approx(11.0)
    assert means.loc[1, 1] == 10.0
    assert means.loc[2, 23] == 20.0


def test_shades_cover_all_that_is_imported():
    means = pd.DataFrame([[0.0, 113.0, 226.0]])
    levels = heat_levels([means])
    assert len(levels) == LEVELS
    assert levels == sorted(levels)
    assert levels[-1] >= 226.0
    assert heat_levels([pd.DataFrame([[0.0]])])[-1] > 0


def test_satisfaction_by_arrival_leaves_out_hours_with_few_vehicles():
    table = departures().astype({"arrival_hour_of_year": float})
    table.loc[table["socket"] == "moto_000", "arrival_hour_of_year"] = [8.0, np.nan, -1, 17, 17 + 24]
    means = satisfaction_by_arrival(table, "moto")
    assert list(means.index) == [17]
    assert vehicle_classes({"no_control": table}) == ["moto", "mototaxi"]


def test_a_score_is_drawn_as_the_sum_of_its_parts():
    svg = score_chart(report_data(rows=[row("no_control", meets_service=True)]), TEXTS)
    parts = ("co2", "solar", "cost", "ev_satisfaction", "grid_stability")
    widths = [boxes(svg, f"score-{part}")[0][2] for part in parts]
    assert sum(widths) == pytest.approx(346.0, abs=0.3)  # the whole axis from 0 to 1
    assert widths[0] == pytest.approx(173.0, abs=0.1)


def test_co2_stacks_unserved_on_grid_and_puts_avoided_on_the_other_side():
    svg = co2_chart(report_data(rows=[row("no_control")]), TEXTS)
    ((grid_x, _, grid_width, _),) = boxes(svg, "co2-grid")
    ((unserved_x, _, unserved_width, _),) = boxes(svg, "co2-unserved")
    ((avoided_x, _, avoided_width, _),) = boxes(svg, "co2-avoided")
    assert unserved_x == pytest.approx(grid_x + grid_width, abs=0.1)
    assert avoided_x + avoided_width == pytest.approx(grid_x, abs=0.1)
    assert unserved_width / grid_width == pytest.approx(300 / 190, abs=0.02)


def test_controllers_without_the_service_are_faded_and_others_are_not():
    svg = co2_chart(report_data(rows=ladder()), TEXTS)
    classes = [path.attrib["class"] for path in ElementTree.fromstring(svg).iter("path")]
    grid = [kind for kind in classes if "co2-grid" in kind]
    assert ["faded" in kind for kind in grid] == [True, False, False, False]


def test_the_plot_of_import_leaves_out_who_serves_almost_nobody_and_names_them():
    data = report_data(rows=[*ladder(), row("none", ev_satisfaction=0.33)])
    shown, left_out = shown_rows(data)
    assert [r["controller"] for r in left_out] == ["none"]
    assert [r["controller"] for r in shown] == ["no_control", "best_rule", "oracle", "sac"]


def test_points_are_further_right_the_better_they_serve_and_further_down_the_less_they_import():
    svg = pareto_chart(report_data(rows=[row("no_control"), agent()], frontier=None), TEXTS)
    points = {}
    for path in ElementTree.fromstring(svg).iter("path"):
        if "marker" in path.attrib["class"]:
            x, y = map(float, re.findall(r"M(-?[\d.]+) (-?[\d.]+)", path.attrib["d"])[0])
            points[str(path.findtext("title")).split(":")[0]] = (x, y)
    assert points["SAC"][0] > points["no control"][0]
    assert points["SAC"][1] > points["no control"][1]


def test_labels_of_near_points_do_not_cover_each_other():
    rows = [row("no_control"), *(agent(f"agent_{k}", ev_satisfaction=0.9 + k / 500) for k in range(5))]
    svg = pareto_chart(report_data(rows=rows), TEXTS)
    labels = [text for text in ElementTree.fromstring(svg).iter("text") if "label" in text.attrib["class"]]
    places = [(float(t.attrib["x"]), float(t.attrib["y"]), t.attrib["text-anchor"]) for t in labels]
    spans = []
    for (x, y, anchor), text in zip(places, labels, strict=True):
        width = 6.1 * len(str(text.text))
        left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
        spans.append((left, left + width, y))
    for k, (left, right, y) in enumerate(spans):
        for other_left, other_right, other_y in spans[k + 1 :]:
            assert abs(y - other_y) >= 9 or right <= other_left or other_right <= left


def test_what_a_controller_is_decides_how_it_looks():
    rows = ladder()
    assert look_of("no_control", rows).name == "base"
    assert look_of("best_rule", rows).marker == "circle"
    assert look_of("oracle", rows).marker == "diamond"
    agents = [agent("a2c"), agent("sac")]
    assert look_of("a2c", agents).name != look_of("sac", agents).name


def test_the_physical_limit_is_that_of_the_optimum_of_the_score_whatever_other_optima_are_there():
    other = {**optimum(score=0.64, ev_satisfaction=0.91), "controller": "oracle_satisfaction_0.91"}
    one, both = (
        report_data(rows=[row("no_control"), *extra, optimum(score=0.54, ev_satisfaction=0.945)])
        for extra in ([row("x")], [other])
    )
    for chart in (service_chart, score_chart):
        levels = [
            {
                re.findall(r"M(-?[\d.]+)", path.attrib["d"])[0]
                for path in ElementTree.fromstring(chart(data, TEXTS)).iter("path")
                if path.attrib["class"] == "reference limit"
            }
            for data in (one, both)
        ]
        assert len(levels[0]) == 1
        assert levels[0] == levels[1]
