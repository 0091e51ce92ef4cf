"""What a report shows in detail follows from its data."""

from __future__ import annotations

import pytest

from iquitos_rl.evaluation.report.selection import Days, best_of, chosen_controllers, representative_days
from tests.evaluation.report.report_data import PV_OF_DAY_KWH, agent, hours, ladder, report_data, row


def test_the_typical_day_has_the_median_pv_and_the_cloudy_one_the_least_of_few():
    # sorted: day 1 (10), 3 (20), 4 (30), 2 (40), 0 (50): rank (5 - 1) // 2 = 2, rank ceil(0.25) - 1 = 0
    assert PV_OF_DAY_KWH == (50.0, 10.0, 40.0, 20.0, 30.0)
    assert representative_days(hours()) == Days(typical=4, cloudy=1, by_pv=True, count=5)


def test_the_cloudy_day_of_forty_days_is_the_second_least_sunny():
    # ceil(0.05 x 40) - 1 = 1; the median is rank (40 - 1) // 2 = 19
    days = representative_days(hours([100.0 - day for day in range(40)]))
    assert days == Days(typical=39 - 19, cloudy=38, by_pv=True, count=40)


def test_days_that_are_not_whole_are_not_chosen():
    flows = hours([30.0, 10.0, 20.0])
    later = flows.iloc[1:]  # day 0 lacks its first hour
    assert representative_days(later) == Days(typical=1, cloudy=None, by_pv=True, count=2)
    assert representative_days(flows.head(23)) is None


def test_days_are_numbered_within_the_year():
    days = representative_days(hours(first_hour=240))
    assert days == Days(typical=14, cloudy=11, by_pv=True, count=5)


def test_one_day_is_typical_and_none_is_cloudy():
    assert representative_days(hours([7.0])) == Days(typical=0, cloudy=None, by_pv=True, count=1)


def test_without_pv_the_day_of_median_load_is_shown():
    flows = hours([0.0, 0.0, 0.0])
    flows["load_kwh"] = [3.0] * 24 + [1.0] * 24 + [2.0] * 24
    assert representative_days(flows) == Days(typical=2, cloudy=None, by_pv=False, count=3)


def test_the_best_of_a_kind_has_the_lowest_score_among_those_that_serve():
    rows = [
        row("no_control", score=0.1),
        row("none", score=0.3, meets_service=False),
        row("a", score=0.7, meets_service=True),
        row("b", score=0.6, meets_service=True),
    ]
    found = best_of(rows, "rule")
    assert found is not None
    assert found["controller"] == "b"
    assert best_of(rows, "agent") is None


def test_where_none_serves_the_lowest_score_is_shown():
    found = best_of([row("a", score=0.7), row("b", score=0.6)], "rule")
    assert found is not None
    assert found["controller"] == "b"


def test_chosen_are_no_control_the_best_rule_the_best_agent_and_the_optimum():
    rows = [*ladder(), agent("ppo", score=0.9), row("laxity_first", score=0.7, meets_service=True)]
    data = report_data(rows=rows)
    names = [row["controller"] for row in data.rows]
    assert [r["controller"] for r in chosen_controllers(data, names)] == [
        "no_control",
        "best_rule",
        "sac",
        "oracle",
    ]


@pytest.mark.parametrize(
    ("available", "expected"),
    [([], []), (["best_rule"], ["best_rule"]), (["laxity_first", "ppo"], ["laxity_first", "ppo"])],
)
def test_only_what_is_available_is_chosen(available, expected):
    rows = [*ladder(), agent("ppo", score=0.9), row("laxity_first", score=0.7, meets_service=True)]
    assert [r["controller"] for r in chosen_controllers(report_data(rows=rows), available)] == expected


def test_the_order_of_equal_days_is_that_of_the_year():
    assert representative_days(hours([20.0, 20.0, 20.0])) == Days(typical=1, cloudy=0, by_pv=True, count=3)
