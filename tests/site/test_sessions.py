import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iquitos_rl.site.sessions import make_sessions, make_sockets
from iquitos_rl.site.timeline import WEEKDAY_OF_ROW, random_stream

chances = st.floats(0, 1)


@st.composite
def session_sections(draw):
    opening = draw(st.integers(0, 22))
    closing = draw(st.integers(opening + 1, 24))
    cuts = sorted(draw(st.sets(st.integers(opening, closing), min_size=2, max_size=4)))
    busy = sorted(draw(st.sets(st.integers(0, 24), min_size=2, max_size=2)))
    soc = sorted(draw(st.tuples(chances, chances)))
    return {
        "opening_hours": [opening, closing],
        "sessions": {
            "arrivals": [
                {"hours": list(hours), "probability": draw(chances)} for hours in itertools.pairwise(cuts)
            ],
            "weekday_factor": draw(st.lists(st.floats(0, 3), min_size=7, max_size=7)),
            "dwell": {
                "one_hour_probability": draw(chances),
                "busy_hours": busy,
                "busy_one_hour_probability": draw(chances),
                "long_stay_hours": draw(st.lists(st.integers(1, 24), min_size=1, max_size=4)),
            },
            "arrival_soc": soc,
            "required_soc": draw(chances),
        },
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sections=session_sections(), seed=st.integers(0, 2**31 - 1))
def test_sessions_of_any_site_keep_the_rules(site_with, sections, seed):
    site = site_with(**sections)
    sessions = make_sessions(site, 3, random_stream(seed, "test", 0, "sessions"))
    opening, closing = site.opening_hours
    hour = sessions.start % 24
    assert ((hour >= opening) & (hour + sessions.dwell <= closing)).all()
    allowed = {1, *site.sessions.dwell.long_stay_hours}
    cut = hour + sessions.dwell == closing
    assert set(sessions.dwell[~cut]) <= allowed
    assert (sessions.dwell >= 1).all()
    same = sessions.socket[1:] == sessions.socket[:-1]
    assert (sessions.start[1:][same] >= sessions.end[:-1][same]).all()  # ordered, and no overlap
    assert (np.diff(sessions.socket) >= 0).all()
    assert ((sessions.arrival_soc >= 0) & (sessions.arrival_soc <= 1)).all()
    percent = np.concatenate([sessions.arrival_soc, sessions.required_soc]) * 100
    assert not ((percent > 0) & (percent <= 1)).any()  # CityLearn would take it for a fraction
    chances = {h: a.probability for a in site.sessions.arrivals for h in range(*a.hours)}
    assert all(chances.get(int(h), 0) > 0 for h in np.unique(hour))


def test_sockets_can_be_taken_again_in_the_hour_they_are_left(station):
    sessions = make_sessions(station, 128, random_stream(0, "train", 0, "sessions"))
    same = sessions.socket[1:] == sessions.socket[:-1]
    assert (sessions.start[1:][same] == sessions.end[:-1][same]).mean() > 0.3


def test_the_station_has_about_510_sessions_a_day_and_more_on_friday_than_on_sunday(station):
    sessions = make_sessions(station, 128, random_stream(0, "train", 0, "sessions"))
    assert len(sessions) / 365 == pytest.approx(511, abs=5)
    per_weekday = np.bincount(WEEKDAY_OF_ROW[sessions.start], minlength=7)
    assert per_weekday[6] < per_weekday[1] < per_weekday[4]
    assert sessions.arrival_soc.min() >= 0.2
    assert sessions.arrival_soc.max() <= 0.4
    assert (sessions.required_soc == 0.9).all()


def test_a_certain_arrival_fills_every_socket(site_with):
    site = site_with(
        opening_hours=[9, 22],
        sessions={"arrivals": [{"hours": [9, 10], "probability": 1.0}], "weekday_factor": [1.0] * 7},
    )
    sessions = make_sessions(site, 4, random_stream(0, "train", 0, "sessions"))
    assert len(sessions) == 4 * 365
    assert (sessions.start % 24 == 9).all()


def test_capacities_lie_in_their_class_and_are_redrawn_every_year(station):
    first = make_sockets(station, random_stream(0, "train", 0, "vehicles"))
    second = make_sockets(station, random_stream(0, "train", 1, "vehicles"))
    assert [s.name for s in first[:2]] == ["moto_001", "moto_002"]
    assert first[112].name == "mototaxi_001"
    assert first[112].vehicle == "ev_mototaxi_001"
    assert len(first) == 128
    assert all(3.0 <= s.battery_capacity_kwh <= 3.6 for s in first[:112])
    assert all(6.0 <= s.battery_capacity_kwh <= 7.2 for s in first[112:])
    assert first[0].battery_power_kw == 4.0
    assert [s.battery_capacity_kwh for s in first] != [s.battery_capacity_kwh for s in second]
