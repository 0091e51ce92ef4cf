"""The programme on sites small enough for a pencil: every term of the goal and every limit once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iquitos_rl.control.optimum.goal import Goal
from iquitos_rl.control.optimum.programme import without_simultaneous
from iquitos_rl.control.optimum.window import Phase
from tests.control.optimum.tiny_site import BESS, solve, vehicle, window


def test_a_vehicle_charges_in_the_cheap_hour():
    site = window([1, 1, 1], vehicles=[vehicle(last=2, need=1.6, required=3.0)])
    plan = solve(site, [3.0, 1.0, 2.0], unserved_price=100.0)
    np.testing.assert_allclose(plan.sockets_kw[:, 0], [0, 2.0, 0], atol=1e-9)  # 1.6 kWh / 0.8
    assert plan.kpis["unserved_energy_kwh"] == pytest.approx(0)
    assert plan.kpis["ev_satisfaction"] == pytest.approx(1)


def test_a_vehicle_is_left_short_when_import_costs_more_than_service():
    site = window([1, 1], vehicles=[vehicle(last=1, need=1.6, required=3.2)])
    dear = solve(site, 1.0, unserved_price=1.2)  # a kWh of service takes 1.25 kWh of import
    assert dear.kpis["ev_draw_kwh"] == pytest.approx(0)
    assert dear.kpis["unserved_energy_kwh"] == pytest.approx(1.6)
    assert dear.kpis["ev_satisfaction"] == pytest.approx(0.5)
    worth = solve(site, 1.0, unserved_price=1.3)
    assert worth.kpis["ev_draw_kwh"] == pytest.approx(2.0)


def test_vehicles_of_one_hour_and_longer_stays_are_priced_alike():
    for last in (0, 1):
        site = window([0, 0], vehicles=[vehicle(last=last, need=1.6, required=4.0)])
        assert solve(site, 1.0, shortfall_price=4.9).kpis["ev_draw_kwh"] == pytest.approx(0)
        assert solve(site, 1.0, shortfall_price=5.1).kpis["ev_draw_kwh"] == pytest.approx(2.0)


def test_the_bess_moves_surplus_to_a_later_hour_and_loses_what_a_round_trip_loses():
    plan = solve(window([0, 20], [10, 0], bess=BESS))
    np.testing.assert_allclose(plan.bess_kw, [10, -8.1], atol=1e-9)  # 10 x 0.9 x 0.9
    np.testing.assert_allclose(plan.bess_kwh, [9, 0], atol=1e-9)
    assert plan.kpis["grid_import_kwh"] == pytest.approx(11.9)
    assert plan.kpis["storage_losses_kwh"] == pytest.approx(1.9)


def test_the_bess_keeps_its_power_its_capacity_and_its_floor():
    small = replace(BESS, power_kw=4.0, capacity_kwh=7.0, floor_kwh=1.0, start_kwh=2.0)
    plan = solve(window([0, 0, 30, 30], [10, 10, 0, 0], bess=small))
    assert plan.bess_kwh.max() == pytest.approx(7.0)
    assert plan.bess_kwh[-1] == pytest.approx(1.0)
    assert np.abs(plan.bess_kw).max() <= 4.0 + 1e-9
    assert plan.kpis["bess_discharge_kwh"] == pytest.approx(6.0 * 0.9)


def test_energy_left_in_the_bess_counts_as_used_but_not_as_lost():
    plan = solve(window([0], [10], bess=BESS), 1.0, surplus_price=0.5)
    # Stored, 10 kWh lose 1 kWh; exported they would lose 10.
    np.testing.assert_allclose(plan.bess_kw, [10.0])
    assert plan.kpis["storage_losses_kwh"] + plan.kpis["grid_export_kwh"] == pytest.approx(1.0)


def test_a_terminal_value_keeps_energy_in_the_bess():
    full = replace(BESS, start_kwh=50.0)
    assert solve(window([20], bess=full)).bess_kw[0] == pytest.approx(-20.0)
    assert solve(window([20], bess=full), stored_value=1.0).bess_kw[0] == pytest.approx(0.0, abs=1e-9)


def test_a_day_is_levelled_if_its_peak_has_a_price():
    site = window([0, 2], vehicles=[vehicle(last=1, need=3.2, required=4.0)])
    plan = solve(site, 1.0, unserved_price=100.0, peak_price=0.5)
    np.testing.assert_allclose(plan.sockets_kw[:, 0], [3, 1], atol=1e-6)  # 4 kWh of draw, 3 kW in both hours
    assert plan.kpis["mean_daily_peak_kw"] == pytest.approx(3.0)


def test_a_peak_that_the_day_already_had_costs_nothing_more():
    site = window([0, 2], vehicles=[vehicle(last=1, need=3.2, required=4.0)], day_peak_kw=5.0)
    plan = solve(site, [1.0, 0.5], unserved_price=100.0, peak_price=10.0)
    np.testing.assert_allclose(
        plan.sockets_kw[:, 0], [1, 3], atol=1e-6
    )  # 3 kW more in the cheap hour, to 5 kW


def test_every_day_has_its_own_peak():
    site = window([5, 0], vehicles=[vehicle(last=1, need=3.2, required=4.0)], day=[0, 1])
    plan = solve(site, [1.0, 1.1], unserved_price=100.0, peak_price=1.0)
    # Day 0 has a peak of 5 kW anyway, but a kWh there raises it as much as one in day 1: the cheaper hour.
    np.testing.assert_allclose(plan.sockets_kw[:, 0], [4, 0], atol=1e-6)


def test_surplus_fills_vehicles_beyond_what_they_need_and_import_does_not():
    vehicles = [
        vehicle(0, last=1, need=0.8, room=3.2, required=4.0),
        vehicle(1, need=0.8, room=3.2, required=4.0),
    ]
    sunny = solve(window([0, 0], [100, 100], vehicles=vehicles), 1.0, surplus_price=0.5, unserved_price=100.0)
    assert sunny.kpis["ev_delivered_kwh"] == pytest.approx(6.4)
    dark = solve(window([0, 0], vehicles=vehicles), 1.0, surplus_price=0.5, unserved_price=100.0)
    assert dark.kpis["ev_delivered_kwh"] == pytest.approx(1.6)


def test_who_does_not_depart_within_the_window_takes_surplus_only():
    stays = [vehicle(last=0, need=0.0, room=3.2, required=0.0, counts=0)]
    assert solve(window([1], vehicles=stays), 1.0, shortfall_price=100.0).kpis["ev_draw_kwh"] == 0
    sunny = solve(window([1], [3], vehicles=stays), 1.0, surplus_price=0.1)
    assert sunny.kpis["ev_draw_kwh"] == pytest.approx(2.0)
    assert sunny.kpis["ev_departures"] == 0


def test_the_feeder_serves_first_whose_satisfaction_a_kwh_raises_most():
    vehicles = [vehicle(0, need=2.0, required=4.0), vehicle(1, need=1.6, required=2.0)]
    plan = solve(window([0], vehicles=vehicles, limit_kw=3.0), 1.0, shortfall_price=1000.0)
    np.testing.assert_allclose(plan.sockets_kw[0], [1.0, 2.0])
    assert plan.kpis["ev_satisfaction"] == pytest.approx(1 - (2.0 - 0.8) / 4.0 / 2)


def test_a_phase_limits_its_own_sockets():
    vehicles = [vehicle(k, need=1.6, required=4.0) for k in range(3)]
    site = window([0], vehicles=vehicles, phases=[Phase(2.5, np.array([0, 1]))])
    plan = solve(site, 1.0, unserved_price=100.0)
    assert plan.sockets_kw[0, :2].sum() == pytest.approx(2.5)
    assert plan.sockets_kw[0, 2] == pytest.approx(2.0)


def test_a_vehicle_draws_no_more_than_its_power_and_its_room():
    vehicles = [
        vehicle(0, need=10.0, room=10.0, required=10.0),
        vehicle(1, last=1, need=0.4, room=0.4, required=4.0),
    ]
    plan = solve(window([0, 0], [90, 90], vehicles=vehicles), 1.0, surplus_price=1.0, unserved_price=100.0)
    assert plan.sockets_kw[0, 0] == pytest.approx(4.0)
    assert plan.sockets_kw[:, 1].sum() == pytest.approx(0.5)


def test_who_requires_more_than_a_full_battery_lacks_the_rest_whatever_is_done():
    asks = vehicle(last=1, need=2.0, required=4.0) | {"room_kwh": 1.6}
    plan = solve(window([0, 0], vehicles=[asks]), 1.0, unserved_price=100.0)
    assert plan.kpis["ev_delivered_kwh"] == pytest.approx(1.6)
    assert plan.kpis["unserved_energy_kwh"] == pytest.approx(0.4)


def test_a_least_satisfaction_is_reached_exactly_and_one_beyond_reach_is_refused():
    vehicles = [vehicle(0, need=2.0, required=4.0), vehicle(1, last=1, need=2.0, required=4.0)]
    site = window([0, 0], vehicles=vehicles)
    plan = solve(site, 1.0, least_satisfaction=0.8)
    assert plan.kpis["ev_satisfaction"] == pytest.approx(0.8)
    assert plan.kpis["grid_import_kwh"] == pytest.approx(2 * 4.0 * 0.3 / 0.8)  # from 0.5 to 0.8 of both
    with pytest.raises(ValueError, match=r"satisfaction 1\.2: more than anything reaches"):
        solve(site, 1.0, least_satisfaction=1.2)


def test_prices_below_zero_are_refused():
    with pytest.raises(ValueError, match="import_price below 0"):
        Goal(np.array([1.0, -0.1]))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=8),
    st.lists(st.floats(-60, 60), min_size=8, max_size=8),
)
def test_removing_simultaneous_flows_stores_the_same_and_never_costs(flows, rest):
    charge, discharge = np.array(flows).T
    rest = np.array(rest[: len(charge)])
    power = without_simultaneous(charge, discharge, BESS)
    before = BESS.root * charge - discharge / BESS.root
    after = BESS.root * np.maximum(power, 0) - np.maximum(-power, 0) / BESS.root
    np.testing.assert_allclose(after, before, atol=1e-9)
    assert np.all(np.abs(power) <= 50 + 1e-9)

    def import_and_waste(net, losses):
        return np.maximum(net, 0), np.maximum(-net, 0) + losses

    old = import_and_waste(rest + charge - discharge, charge - discharge - before)
    new = import_and_waste(rest + power, power - after)
    assert np.all(new[0] <= old[0] + 1e-9)
    assert np.all(new[1] <= old[1] + 1e-9)
