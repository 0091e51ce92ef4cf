"""Model-predictive control: what it expects, what it decides, and what comes of it hour by hour."""

from dataclasses import replace

import numpy as np
import pytest

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.control.optimum.forecast import Forecaster, cut_at
from iquitos_rl.control.optimum.predictive import PredictivePlanner
from iquitos_rl.control.optimum.window import window_of
from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.situation import engine_situation
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.objectives import NoControlReference
from tests.control.optimum.tiny_site import vehicle, window

WEIGHTS = RewardWeights()
START = 30 * 24
NOMINAL_KW, RATED_KW = 8.0, np.array([2.0, 2.0, 3.0])


@pytest.fixture(scope="module")
def gone_by(dataset_of):
    dataset = dataset_of("plain")
    return load_years([dataset.schema_path("train", k) for k in range(2)])


@pytest.fixture(scope="module")
def forecaster(gone_by):
    return Forecaster.fit(gone_by)


@pytest.fixture(scope="module")
def planner(gone_by, dataset_of):
    references = [dataset_of("plain").no_control("train", k).reference() for k in range(2)]
    return PredictivePlanner(gone_by, NoControlReference.mean(references), WEIGHTS)


def present(years, row):
    """The situation of an engine that was put into that row, and the PV of the day until then."""
    engine = BatchEngine(years, 1, weights=WEIGHTS, reference=NoControlReference((1.0,) * 5, 1, 1, 1))
    engine.reset(np.array([0]), np.array([0]), np.array([row]))
    return engine_situation(engine), years.tables.hours[row - 23 : row + 1, 1].astype(float)


def with_site(situation, **changes):
    """The same hour with other quantities of the site."""
    site = replace(situation.site, **{name: np.array([value]) for name, value in changes.items()})
    return replace(situation, site=site)


def test_a_week_of_expected_sessions_is_a_mean_week(forecaster, gone_by):
    departures = gone_by.tables.departures.sum() / (2 * 365 / 7)
    assert forecaster.arrivals.departures.sum() == pytest.approx(departures, rel=0.02)
    needed = sum(window_of(gone_by, k).sessions.need_kwh.sum() for k in range(2)) / (2 * 365 / 7)
    assert forecaster.arrivals.need_kwh.sum() == pytest.approx(needed, rel=0.02)


def test_sessions_expected_after_an_hour_begin_after_it_and_within_the_horizon(forecaster):
    monday_noon = forecaster.expected_sessions(12, 36)
    assert monday_noon.first.min() >= 1
    assert monday_noon.last.max() <= 35
    through_sunday_night = forecaster.expected_sessions(167, 25)
    monday = forecaster.arrivals.take(forecaster.arrivals.first < 24)
    assert through_sunday_night.departures.sum() == pytest.approx(monday.departures.sum())
    np.testing.assert_array_equal(through_sunday_night.first - 1, monday.first)


def test_usual_sun_is_expected_to_stay_usual_and_clouds_to_linger(forecaster):
    noon = 100 * 24 + 12
    usual = forecaster.pv_mean_kwh[noon - 23 : noon + 1]
    np.testing.assert_allclose(
        forecaster.pv_kwh(noon, 30, usual), forecaster.pv_mean_kwh[noon : noon + 30], atol=1e-9
    )
    clouded = forecaster.pv_kwh(noon, 30, 0.3 * usual)
    mean = forecaster.pv_mean_kwh[noon : noon + 30]
    assert clouded[0] == pytest.approx(0.3 * mean[0])
    assert np.all(clouded[1:5] < 0.9 * mean[1:5])
    # The next morning hardly remembers.
    assert clouded[22:30].sum() > 0.6 * mean[22:30].sum()
    assert np.all(clouded >= 0)


def test_the_forecast_beats_the_mean_in_a_year_it_has_not_seen(forecaster, years):
    pv = years.tables.hours[:, 1].astype(float)
    rows = np.arange(24, 8000, 7)
    errors = {"forecast": 0.0, "mean": 0.0}
    for row in rows:
        later = pv[row + 1 : row + 5]
        errors["mean"] += np.abs(forecaster.pv_mean_kwh[row + 1 : row + 5] - later).sum()
        errors["forecast"] += np.abs(forecaster.pv_kwh(row, 5, pv[row - 23 : row + 1])[1:] - later).sum()
    assert errors["forecast"] < 0.9 * errors["mean"]


def test_a_horizon_asks_of_a_longer_stay_its_share():
    stays = window([0] * 8, vehicles=[vehicle(last=7, need=4.0, required=5.0)]).sessions
    near = cut_at(stays, 2)
    assert near.last[0] == 1
    assert near.need_kwh[0] == pytest.approx(1.0)
    assert cut_at(stays, 8).need_kwh[0] == pytest.approx(4.0)


def test_the_window_is_the_present_and_then_the_forecast(planner, years):
    ahead = planner.window(*present(years, START + 18))
    assert ahead.hours == 30  # to the end of the next day
    np.testing.assert_array_equal(ahead.day, [0] * 6 + [1] * 24)
    load, pv, price, _, _ = years.tables.hours[START + 18]
    assert ahead.load_kwh[0] == pytest.approx(load)
    assert ahead.pv_kwh[0] == pytest.approx(pv)
    assert ahead.price_usd_per_kwh[0] == pytest.approx(price)
    real = window_of(years, 0, START + 18, 20).sessions
    there = ahead.sessions.take(ahead.sessions.socket >= 0)
    now = real.take(real.first == 0)
    np.testing.assert_array_equal(there.socket, now.socket)
    np.testing.assert_array_equal(there.last, now.last)
    np.testing.assert_allclose(there.need_kwh, now.need_kwh, atol=1e-5)
    np.testing.assert_allclose(there.power_kw, now.power_kw, atol=1e-5)
    np.testing.assert_allclose(there.efficiency, now.efficiency, atol=1e-5)


def test_a_plan_keeps_to_the_sockets_that_are_taken_and_to_the_feeder(planner, years):
    for row in range(START, START + 48):
        situation, seen = present(years, row)
        bess_kw, sockets_kw = planner.plan(situation, seen)
        assert abs(bess_kw) <= NOMINAL_KW + 1e-9
        assert np.all(sockets_kw[~situation.sockets.occupied[0]] == 0)
        assert sockets_kw.sum() <= 4.2 + 1e-6
        assert np.all(sockets_kw <= RATED_KW + 1e-9)


def test_only_a_day_whose_peak_is_still_to_come_is_levelled(planner, years):
    situation, seen = present(years, START + 20)
    nobody = replace(situation.sockets, occupied=np.zeros((1, 3), bool))
    evening = with_site(replace(situation, sockets=nobody), load_kwh=6.0, bess_soc=0.6)
    calm, _ = planner.plan(with_site(evening, day_peak_kw=0.0), seen)
    late, _ = planner.plan(with_site(evening, day_peak_kw=50.0), seen)
    everything_kw = (9.0 - 0.2 * 15.0) * np.sqrt(0.9)
    assert late == pytest.approx(-everything_kw)
    assert -everything_kw < calm < 0  # the rest is kept for the next hours


def test_it_decides_the_same_twice(planner, years):
    first, second = (planner.plan(*present(years, START + 17)) for _ in range(2))
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("name", ["no_pv", "no_bess", "no_feeder"])
def test_it_plans_without_sun_without_a_bess_and_without_a_feeder(dataset_of, years_of, name):
    dataset = dataset_of(name)
    planner = PredictivePlanner(
        load_years([dataset.schema_path("train", 0)]), dataset.no_control("train", 0).reference(), WEIGHTS
    )
    bess_kw, sockets_kw = planner.plan(*present(years_of(name), START + 19))
    assert sockets_kw.sum() > 0
    assert (bess_kw == 0) or name != "no_bess"


def test_a_kwh_for_a_vehicle_that_may_come_earns_less_than_for_one_that_is_there(planner, forecaster, years):
    row = START + 18
    situation, seen = present(years, row)
    ahead = planner.window(situation, seen)
    hour_of_week = int(situation.site.day_type[0]) * 24 + 18
    plain = forecaster.expected_sessions(hour_of_week, ahead.hours)
    fluid = ahead.sessions.socket < 0
    np.testing.assert_allclose(ahead.sessions.required_kwh[fluid], 1.1 * plain.required_kwh)
    np.testing.assert_array_equal(ahead.sessions.need_kwh[fluid], plain.need_kwh)
