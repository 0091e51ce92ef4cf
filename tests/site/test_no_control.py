import itertools

import numpy as np
import pytest

from iquitos_rl.site.no_control import NO_CONTROL_COLUMNS, no_control_hours, no_control_year
from iquitos_rl.site.storage import read_table
from iquitos_rl.site.year import make_year

KPIS = {
    *("grid_import_kwh", "grid_export_kwh", "load_kwh", "ev_draw_kwh", "ev_discharge_kwh"),
    *(
        "ev_delivered_kwh",
        "bess_charge_kwh",
        "bess_discharge_kwh",
        "bess_stored_change_kwh",
        "storage_losses_kwh",
    ),
    *("pv_generation_kwh", "pv_used_kwh", "solar_utilisation", "ev_satisfaction", "ev_departures"),
    *("unserved_energy_kwh", "co2_grid_kg", "co2_avoided_solar_kg", "co2_net_kg", "co2_unserved_kg"),
    *("cost_usd", "peak_import_kw", "mean_daily_peak_kw"),
}


def slow_year(dataset, year_data):
    """Every hour and socket in turn, from the tables alone."""
    site = dataset.site
    folder = dataset.year_path("train")
    building = read_table(folder / "building.parquet")
    share = min(1.0, site.feeder_limit_kw / site.installed_power_kw)
    rows = len(building)
    out = {name: np.zeros(rows) for name in NO_CONTROL_COLUMNS}
    for socket in year_data.sockets:
        table = read_table(folder / "chargers" / f"{socket.name}.parquet").to_dict("list")
        soc = float("nan")
        for t in range(rows):
            if table["electric_vehicle_charger_state"][t] != 1:
                continue
            mine = table["electric_vehicle_session_id"][t]
            if t == 0 or mine != table["electric_vehicle_session_id"][t - 1]:
                soc = table["electric_vehicle_estimated_soc_arrival"][t] / 100
            else:
                out["sessions_in_progress"][t] += 1
            room = (1 - soc) * socket.battery_capacity_kwh
            given = min(share * socket.power_kw * socket.efficiency, socket.battery_power_kw, room)
            soc += given / socket.battery_capacity_kwh
            out["ev_draw_kwh"][t] += given / socket.efficiency
            out["ev_delivered_kwh"][t] += given
            if t + 1 < rows and table["electric_vehicle_session_id"][t + 1] != mine:
                required = table["electric_vehicle_required_soc_departure"][t] / 100
                out["ev_departures"][t] += 1
                out["satisfaction_shortfall"][t] += 1 - min(1.0, soc / required)
                out["unserved_energy_kwh"][t] += max(0.0, required - soc) * socket.battery_capacity_kwh
    out["load_kwh"] = building["non_shiftable_load"].to_numpy()
    out["pv_generation_kwh"] = building["solar_generation"].to_numpy() * site.pv.nominal_power_kwp / 1000
    net = out["load_kwh"] + out["ev_draw_kwh"] - out["pv_generation_kwh"]
    out["grid_import_kwh"], out["grid_export_kwh"] = np.maximum(net, 0), np.maximum(-net, 0)
    return out


def test_the_closed_form_equals_a_slow_loop_over_every_hour(dataset, small_site):
    slow = slow_year(dataset, make_year(small_site, 5, "train", 0))
    stored = dataset.no_control("train").hourly
    for name in NO_CONTROL_COLUMNS[:-2]:
        assert np.allclose(stored[name], slow[name], atol=2e-6), name
    imports = slow["grid_import_kwh"][:8759]
    objectives = dataset.no_control("train").reference().objectives
    price = np.where(np.isin(np.arange(8759) % 24, range(18, 23)), 0.3, 0.2)
    expected = (
        imports.sum() * 0.4521 + slow["unserved_energy_kwh"][:8759].sum() * 2.146,
        slow["grid_export_kwh"][:8759].sum(),
        (imports * price).sum(),
        slow["satisfaction_shortfall"][:8759].sum(),
        sum(imports[day : day + 24].max() for day in range(0, 8759, 24)),
    )
    assert objectives == pytest.approx(expected, rel=1e-6)


def test_totals_have_every_kpi_and_add_up(dataset):
    totals = dataset.no_control_totals("test")
    assert set(totals) >= KPIS
    net = totals["grid_import_kwh"] - totals["grid_export_kwh"]
    assert net == pytest.approx(
        totals["load_kwh"] + totals["ev_draw_kwh"] - totals["pv_generation_kwh"], rel=1e-6
    )
    assert totals["ev_delivered_kwh"] == pytest.approx(0.95 * totals["ev_draw_kwh"], rel=1e-6)
    assert totals["co2_grid_kg"] == pytest.approx(0.4521 * totals["grid_import_kwh"], rel=1e-6)
    assert totals["co2_net_kg"] == pytest.approx(
        totals["co2_grid_kg"] - 0.4521 * totals["pv_used_kwh"], rel=1e-5
    )
    hourly = dataset.no_control("test").hourly
    assert totals["ev_departures"] == hourly["ev_departures"][:8759].sum()
    assert totals["peak_import_kw"] == hourly["grid_import_kwh"][:8759].max()
    reference = dataset.no_control("test").reference()
    assert totals["reference"]["objectives"]["grid_stability"] == pytest.approx(reference.objectives[4])
    assert totals["mean_daily_peak_kw"] * 365 == pytest.approx(reference.objectives[4])


def test_windows_add_up_to_the_year_where_days_begin(dataset):
    year = dataset.no_control("train")
    cuts = [0, 24, 24 * 8, 24 * 200, 8759]
    parts = [year.reference(a, b - a) for a, b in itertools.pairwise(cuts)]
    whole = year.reference()
    assert np.sum([part.objectives for part in parts], axis=0) == pytest.approx(whole.objectives)
    assert sum(part.departures for part in parts) == whole.departures
    assert whole.steps == 8759
    assert year.reference(24).steps == 8735


def test_daily_peaks_of_a_window_that_begins_in_mid_day_are_those_of_calendar_days(dataset):
    year = dataset.no_control("train")
    imports = year.hourly["grid_import_kwh"].to_numpy()
    start = 24 * 30 + 6
    assert year.closed_form_valid(start)
    expected = imports[start : 24 * 31].max() + imports[24 * 31 : 24 * 31 + 5].max()
    assert year.reference(start, 18 + 5).objectives[4] == pytest.approx(expected)


def test_a_window_that_begins_within_a_session_is_refused(dataset):
    year = dataset.no_control("train")
    busy = np.flatnonzero(year.hourly["sessions_in_progress"])
    assert not year.closed_form_valid(int(busy[0]))
    assert all(year.closed_form_valid(24 * day) for day in range(365))
    with pytest.raises(ValueError, match="roll out no control instead"):
        year.reference(int(busy[0]), 3)


@pytest.mark.parametrize(("start", "steps"), [(-1, 5), (0, 0), (0, 8760), (8759, 1), (8700, 60)])
def test_windows_outside_the_year_are_refused(dataset, start, steps):
    with pytest.raises(ValueError, match="not a window of the year"):
        dataset.no_control("train").reference(start, steps)


def test_the_last_row_never_counts(site_with):
    # Open to midnight, and vehicles that come in the last hour: the last session ends with the data.
    site = site_with(
        opening_hours=[9, 24],
        sessions={"arrivals": [{"hours": [23, 24], "probability": 1.0}], "weekday_factor": [1.0] * 7},
    )
    year = no_control_year(make_year(site, 0, "train", 0), site)
    assert year.hourly["ev_departures"].iloc[-1] == 0
    assert year.hourly["ev_draw_kwh"].iloc[-1] > 0
    assert year.totals()["ev_departures"] == 6 * 364


def test_without_a_feeder_limit_vehicles_get_more(small_site):
    year = make_year(small_site, 1, "train", 0)
    limited, free = no_control_hours(year), no_control_hours(year, feeder_limited=False)
    assert free["ev_draw_kwh"].sum() > 1.2 * limited["ev_draw_kwh"].sum()
    wide = make_year(small_site.model_copy(update={"feeder_limit_kw": 1e6}), 1, "train", 0)
    assert no_control_hours(wide).equals(no_control_hours(wide, feeder_limited=False))


def test_a_feeder_limit_of_zero_charges_nobody(site_with):
    site = site_with(feeder_limit_kw=0)
    totals = no_control_year(make_year(site, 1, "train", 0), site).totals()
    assert totals["ev_draw_kwh"] == 0
    assert 0.3 < totals["ev_satisfaction"] < 0.37  # 0.3 / 0.9: they leave as they came


@pytest.mark.parametrize("missing", ["pv", "bess"])
def test_sites_without_pv_or_bess_have_totals(site_with, missing):
    site = site_with(**{missing: None})
    totals = no_control_year(make_year(site, 1, "train", 0), site).totals()
    assert (totals["solar_utilisation"] is None) == (missing == "pv")
    assert (totals["grid_export_kwh"] == 0) == (missing == "pv")


def test_no_departures_leave_satisfaction_open(site_with):
    site = site_with(sessions={"arrivals": [{"hours": [9, 10], "probability": 0.0}]})
    year = no_control_year(make_year(site, 1, "train", 0), site)
    assert year.totals()["ev_satisfaction"] is None
    assert year.reference().left_out == ("ev_satisfaction",)


def test_an_idle_bess_with_standby_losses_loses_down_to_its_floor(site_with):
    bess = {"standby_loss_per_hour": 0.01, "initial_soc": 0.6, "depth_of_discharge": 0.8}
    site = site_with(bess=bess)
    year = no_control_year(make_year(site, 1, "train", 0), site)
    totals = year.totals()
    assert totals["storage_losses_kwh"] == pytest.approx(0.4 * 30)
    assert totals["bess_stored_change_kwh"] == pytest.approx(-0.4 * 30)
    plain = no_control_year(make_year(site_with(), 1, "train", 0), site_with())
    assert year.reference(0, 3).objectives[1] - plain.reference(0, 3).objectives[1] == pytest.approx(
        30 * 0.6 * (1 - 0.99**2)
    )
