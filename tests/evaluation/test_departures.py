"""Departures read off hours and sockets, by hand."""

from __future__ import annotations

import numpy as np

from iquitos_rl.evaluation.departures import departures_of

HOURS = 6


def departures(**columns: list[list[float]]):
    values = {name: np.array(table, float) for name, table in columns.items()}
    shape = values["hours_left"].shape
    return departures_of(
        ["moto_001", "van_001"],
        100,
        occupied=values["hours_left"] > 0,
        hours_left=values["hours_left"],
        required_soc=values.get("required_soc", np.full(shape, 0.8)),
        capacity_kwh=np.broadcast_to([4.0, 10.0], shape),
        start_soc=values["start_soc"],
        end_soc=values["end_soc"],
    )


def test_each_departure_knows_when_it_came_and_how_it_went():
    table = departures(
        # the first socket: a stay of two hours, another right after it; the second: one from before, one cut
        hours_left=[[0, 2], [2, 1], [1, 0], [1, 3], [0, 2], [0, 1]],
        start_soc=[[0, 0.3], [0.2, 0.4], [0.4, 0], [0.5, 0.1], [0, 0.3], [0, 0.5]],
        end_soc=[[0, 0.4], [0.4, 0.6], [0.6, 0], [0.9, 0.3], [0, 0.5], [0, 0.8]],
    )
    assert table["socket"].tolist() == ["van_001", "moto_001", "moto_001", "van_001"]
    assert table["arrival_hour_of_year"].tolist() == [100, 101, 103, 103]
    assert table["departure_hour_of_year"].tolist() == [101, 102, 103, 105]
    assert table["arrival_soc"].tolist() == [0.3, 0.2, 0.5, 0.1]
    assert table["soc"].tolist() == [0.6, 0.6, 0.9, 0.8]
    assert np.allclose(table["satisfaction"], [0.75, 0.75, 1.0, 1.0])
    assert np.allclose(table["unserved_kwh"], [2.0, 0.8, 0.0, 0.0])


def test_a_session_cut_off_by_the_end_does_not_count():
    table = departures(
        hours_left=[[2, 0], [1, 3], [0, 2]],
        start_soc=[[0.2, 0], [0.3, 0.1], [0, 0.2]],
        end_soc=[[0.3, 0], [0.4, 0.2], [0, 0.3]],
    )
    assert table["socket"].tolist() == ["moto_001"]


def test_without_departures_the_table_is_empty_but_has_its_columns():
    table = departures(hours_left=[[0, 0]], start_soc=[[0, 0]], end_soc=[[0, 0]])
    assert len(table) == 0
    assert "satisfaction" in table.columns


def test_a_required_soc_of_nothing_is_met():
    table = departures(
        hours_left=[[1, 1]], start_soc=[[0, 0]], end_soc=[[0, 0.2]], required_soc=[[0, np.nan]]
    )
    assert table["satisfaction"].tolist() == [1.0, 1.0]
    assert table["unserved_kwh"].tolist() == [0.0, 0.0]
