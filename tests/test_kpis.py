"""Key performance indicators against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iquitos_rl.kpis import (
    HOURLY_COLUMNS,
    daily_peaks_kw,
    energy_balance_error,
    key_performance_indicators,
    total_objectives,
)
from iquitos_rl.objectives import FlowIncrements, objective_increments, peak_rise_kw

CARBON = 0.4521


def hours_of(**columns):
    """Hours with zeros wherever nothing is given."""
    count = len(columns["hour_of_year"])
    return {name: columns.get(name, [0.0] * count) for name in HOURLY_COLUMNS}


# Two hours before midnight and three after. Net = load + ev draw - discharge + BESS - PV, worked out by hand.
TWO_DAYS = hours_of(
    hour_of_year=[22, 23, 24, 25, 26],
    load_kwh=[5, 5, 4, 4, 4],
    pv_generation_kwh=[0, 2, 20, 10, 6],
    ev_draw_kwh=[6, 3, 2, 0, 0],
    ev_discharge_kwh=[0, 1, 0, 0, 0],
    ev_delivered_kwh=[5.7, 2.85, 1.9, 0, 0],
    bess_charge_kwh=[0, 0, 8, 0, 0],
    bess_discharge_kwh=[3, 0, 0, 0, 2],
    grid_import_kwh=[8, 5, 0, 0, 0],
    grid_export_kwh=[0, 0, 6, 6, 4],
    storage_losses_kwh=[0.2, 0.1, 0.5, 0, 0.1],
    unserved_energy_kwh=[0, 1.5, 0, 0.5, 0],
    satisfaction_shortfall=[0, 0.5, 0, 0.25, 0],
    ev_departures=[0, 2, 0, 1, 0],
    price_usd_per_kwh=[0.3, 0.2, 0.2, 0.2, 0.2],
    carbon_intensity_kg_per_kwh=[CARBON] * 5,
)


def kpis_of(hours, bess_stored_change_kwh=0.0):
    return key_performance_indicators(
        hours, bess_stored_change_kwh=bess_stored_change_kwh, unserved_kg_per_kwh=2.146
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grid_import_kwh", 13),
        ("grid_export_kwh", 16),
        ("load_kwh", 22),
        ("ev_draw_kwh", 11),
        ("ev_discharge_kwh", 1),
        ("ev_delivered_kwh", 10.45),
        ("bess_charge_kwh", 8),
        ("bess_discharge_kwh", 5),
        ("bess_stored_change_kwh", 2.1),
        ("storage_losses_kwh", 0.9),
        ("pv_generation_kwh", 38),
        ("pv_used_kwh", 38 - 16),
        ("solar_utilisation", 22 / 38),
        ("ev_satisfaction", 1 - 0.75 / 3),
        ("ev_departures", 3),
        ("unserved_energy_kwh", 2),
        ("co2_grid_kg", 13 * CARBON),
        ("co2_avoided_solar_kg", 22 * CARBON),
        ("co2_net_kg", (13 - 22) * CARBON),
        ("co2_unserved_kg", 2 * 2.146),
        ("cost_usd", 8 * 0.3 + 5 * 0.2),
        ("peak_import_kw", 8),
        ("mean_daily_peak_kw", (8 + 0) / 2),
    ],
)
def test_each_kpi_of_five_hours_by_hand(name, expected):
    assert kpis_of(TWO_DAYS, 2.1)[name] == pytest.approx(expected)


def test_there_are_no_other_kpis_and_departures_are_a_count():
    kpis = kpis_of(TWO_DAYS)
    assert len(kpis) == 23
    assert kpis["ev_departures"] == 3
    assert isinstance(kpis["ev_departures"], int)


def test_the_hours_and_so_the_kpis_keep_the_energy_balance():
    kpis = kpis_of(TWO_DAYS)
    assert kpis["grid_import_kwh"] - kpis["grid_export_kwh"] == pytest.approx(
        kpis["load_kwh"]
        + kpis["ev_draw_kwh"]
        - kpis["ev_discharge_kwh"]
        + kpis["bess_charge_kwh"]
        - kpis["bess_discharge_kwh"]
        - kpis["pv_generation_kwh"]
    )


def test_carbon_and_price_are_those_of_the_hour():
    hours = TWO_DAYS | {"carbon_intensity_kg_per_kwh": [0.5, 0.1, 1.0, 0.2, 0.3]}
    kpis = kpis_of(hours)
    assert kpis["co2_grid_kg"] == pytest.approx(8 * 0.5 + 5 * 0.1)
    avoided = (0 * 0.5) + (2 * 0.1) + (20 - 6) * 1.0 + (10 - 6) * 0.2 + (6 - 4) * 0.3
    assert kpis["co2_avoided_solar_kg"] == pytest.approx(avoided)
    assert kpis["co2_net_kg"] == pytest.approx(4.5 - avoided)


def test_without_pv_there_is_no_utilisation():
    kpis = kpis_of(TWO_DAYS | {"pv_generation_kwh": [0.0] * 5, "grid_export_kwh": [0.0] * 5})
    assert kpis["solar_utilisation"] is None
    assert kpis["pv_used_kwh"] == 0


def test_without_departures_there_is_no_satisfaction():
    kpis = kpis_of(TWO_DAYS | {"ev_departures": [0] * 5, "satisfaction_shortfall": [0.0] * 5})
    assert kpis["ev_satisfaction"] is None
    assert kpis["ev_departures"] == 0


def test_pv_used_is_never_negative_although_a_battery_may_export_more():
    kpis = kpis_of(TWO_DAYS | {"grid_export_kwh": [0, 0, 30, 10, 4]})
    assert kpis["pv_used_kwh"] == 0
    assert kpis["solar_utilisation"] == 0
    # what the grid was spared is a balance over all hours and may well be negative
    assert kpis["co2_avoided_solar_kg"] == pytest.approx((38 - 44) * CARBON)


def test_pv_used_is_floored_over_the_whole_run_and_not_hour_by_hour():
    hours = hours_of(hour_of_year=[0, 1], pv_generation_kwh=[10.0, 0.0], grid_export_kwh=[0.0, 4.0])
    assert kpis_of(hours)["pv_used_kwh"] == 6


@pytest.mark.parametrize(
    ("start", "imports", "peaks"),
    [
        (0, [1, 5, 2], [5]),
        (22, [8, 5, 6, 7, 1], [8, 7]),
        (23, [3], [3]),
        (6, [*range(18), 4, 2], [17, 4]),
        (24 * 364 + 22, [2, 1], [2]),
        (0, [*range(24), *range(24, 0, -1), 3], [23, 24, 3]),
    ],
)
def test_daily_peaks_are_those_of_calendar_days_wherever_the_hours_begin(start, imports, peaks):
    hours = np.arange(start, start + len(imports))
    assert daily_peaks_kw(hours, imports).tolist() == peaks


def test_a_year_has_365_daily_peaks():
    assert len(daily_peaks_kw(np.arange(8759), np.ones(8759))) == 365


def test_total_objectives_by_hand():
    assert total_objectives(TWO_DAYS, 2.146) == pytest.approx(
        (13 * CARBON + 2 * 2.146, 16 + 0.9, 8 * 0.3 + 5 * 0.2, 0.75, 8 + 0)
    )


quantities = st.floats(0, 1e4, allow_subnormal=False)


@given(st.data(), st.integers(0, 8700), st.integers(1, 55))
def test_total_objectives_are_the_sum_of_the_steps_increments(data, start, count):
    def column(elements=quantities):
        return np.array(data.draw(st.lists(elements, min_size=count, max_size=count)))

    hours = hours_of(hour_of_year=np.arange(start, start + count))
    for name in ("grid_import_kwh", "grid_export_kwh", "unserved_energy_kwh", "satisfaction_shortfall"):
        hours[name] = column()
    hours["storage_losses_kwh"] = column(st.floats(-10, 10))  # a single hour's may be rounded below 0
    hours["price_usd_per_kwh"] = column(st.floats(0, 1))
    hours["carbon_intensity_kg_per_kwh"] = column(st.floats(0, 1))
    total, peak = np.zeros(5), 0.0
    for t in range(count):
        if (start + t) % 24 == 0:
            peak = 0.0
        rise = float(peak_rise_kw(hours["grid_import_kwh"][t], peak))
        peak += rise
        total += objective_increments(
            FlowIncrements(
                grid_import_kwh=hours["grid_import_kwh"][t],
                grid_export_kwh=hours["grid_export_kwh"][t],
                storage_loss_kwh=hours["storage_losses_kwh"][t],
                unserved_kwh=hours["unserved_energy_kwh"][t],
                shortfall=hours["satisfaction_shortfall"][t],
                peak_rise_kw=rise,
                carbon_intensity_kg_per_kwh=hours["carbon_intensity_kg_per_kwh"][t],
                price_usd_per_kwh=hours["price_usd_per_kwh"][t],
                unserved_kg_per_kwh=2.146,
            )
        )
    assert total_objectives(hours, 2.146) == pytest.approx(total, rel=1e-9, abs=1e-9)


BALANCED = {
    "grid_import_kwh": 30.0,
    "grid_export_kwh": 4.0,
    "load_kwh": 20.0,
    "pv_generation_kwh": 9.0,
    "ev_draw_kwh": 12.0,
    "ev_discharge_kwh": 0.0,
    "bess_charge_kwh": 8.0,
    "bess_discharge_kwh": 5.0,
    "bess_stored_change_kwh": 2.0,
    "storage_losses_kwh": 1.0,
}
"""Net 30 - 4 = 20 + 12 + 8 - 5 - 9, and 8 - 5 = 2 + 1; 88 kWh flow in all."""


def test_energy_that_balances_has_no_error():
    assert energy_balance_error(BALANCED) == 0.0


@pytest.mark.parametrize(
    ("key", "error"),
    [("load_kwh", 0.88 / 88.88), ("storage_losses_kwh", 0.88 / 88), ("bess_stored_change_kwh", 0.88 / 88)],
)
def test_energy_that_is_missing_is_a_share_of_all_that_flows(key, error):
    kpis = BALANCED | {key: BALANCED[key] + 0.88}
    assert energy_balance_error(kpis) == pytest.approx(error)


def test_losses_at_sockets_that_discharge_are_not_the_bess_s():
    kpis = BALANCED | {"storage_losses_kwh": 1.5}
    assert energy_balance_error(kpis) == pytest.approx(0.5 / 88)
    assert energy_balance_error(kpis, vehicles_discharge=True) == 0.0
