"""A report of what an evaluation really gives."""

from __future__ import annotations

import pytest

from iquitos_rl.config import WindowConfig
from iquitos_rl.control import load_controller
from iquitos_rl.evaluation import Evaluator, compare
from iquitos_rl.evaluation.report import render_report
from tests.evaluation.report.report_data import report_data


@pytest.mark.integration
def test_a_report_shows_the_flows_and_figures_of_an_evaluation(small_dataset):
    window = WindowConfig(start_day=3, steps=72)
    result = Evaluator(small_dataset).evaluate(load_controller("no_control"), window)
    (compared,) = compare([result.kpis])
    html = render_report(
        report_data(
            window=result.kpis["window"],
            rows=[compared | {"kind": "rule", "meets_service": False}],
            hours={"no_control": result.hours},
            departures={},
            learning={},
            frontier=None,
            bess_capacity_kwh=small_dataset.site.bess.capacity_kwh,
        )
    ).replace("\u00a0", " ")
    assert f"<span>{result.kpis['grid_import_kwh'] / 1000:.1f}" in html
    assert f"<span>{100 * result.kpis['ev_satisfaction']:.1f} %" in html
    assert "test year 0, 3 days from 4 January" in html
    pv_kwh = result.hours["pv_generation_kwh"].groupby(result.hours["hour_of_year"] // 24).sum()
    typical = pv_kwh.sort_values().index[1] + 1
    assert f"no control, typical day, {typical} January" in html
    assert "state of charge" in html
