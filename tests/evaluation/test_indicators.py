"""Further indicators against values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from iquitos_rl.env.situation import BessPlant
from iquitos_rl.evaluation.indicators import further_indicators, vehicle_classes
from iquitos_rl.kpis import ENERGY_FLOWS
from tests.control.situations import plant

BESS = BessPlant(capacity_kwh=10.0, nominal_kw=5.0, floor_soc=0.2, one_way_efficiency=0.95)
KPIS = {
    "load_kwh": 30.0,
    "ev_draw_kwh": 10.0,
    "grid_import_kwh": 16.0,
    "bess_charge_kwh": 6.0,
    "bess_discharge_kwh": 2.0,
}


def hours_table(count: int = 4, **columns: list[float]) -> pd.DataFrame:
    values: dict[str, Any] = dict.fromkeys((*ENERGY_FLOWS, "ev_discharge_kwh"), [0.0] * count)
    return pd.DataFrame({"hour_of_year": range(count), **values, **columns})


def departures_table(soc: list[float], sockets: list[str] | None = None) -> pd.DataFrame:
    sockets = sockets or [f"moto_{n:03d}" for n in range(len(soc))]
    table = pd.DataFrame({"socket": sockets, "soc": soc, "required_soc": 0.8})
    table["satisfaction"] = np.minimum(1.0, table["soc"] / table["required_soc"])
    table["vehicle_class"] = vehicle_classes(table, ("moto", "mototaxi"))
    return table


def indicators(
    hours: pd.DataFrame | None = None, departures: pd.DataFrame | None = None, **options: Any
) -> dict[str, Any]:
    return further_indicators(
        hours_table() if hours is None else hours,
        departures_table([0.8]) if departures is None else departures,
        KPIS,
        plant(**{"feeder_limit_kw": 10.0, "bess": BESS, **options}),
    )


def test_full_charge_counts_those_with_their_required_soc_and_forgives_rounding():
    found = indicators(departures=departures_table([0.8, 0.79995, 0.9, 0.7]))
    assert found["full_charge_share"] == 0.75


def test_satisfaction_by_class_goes_by_the_longest_name_that_fits():
    table = departures_table([0.4, 0.8, 0.2], ["moto_001", "moto_002", "mototaxi_001"])
    assert indicators(departures=table)["ev_satisfaction_by_class"] == {
        "moto": pytest.approx(0.75),
        "mototaxi": pytest.approx(0.25),
    }


def test_a_socket_of_no_class_is_one_of_its_own():
    table = departures_table([0.4], ["wallbox"])
    assert indicators(departures=table)["ev_satisfaction_by_class"] == {"wallbox": pytest.approx(0.5)}


def test_the_worst_decile_is_of_sockets_not_of_departures():
    # socket 0: mean of 0.25 and 0.75; nineteen others are satisfied, one of them once badly served
    soc = [0.2, 0.6] + [0.8] * 19
    sockets = ["moto_000", "moto_000"] + [f"moto_{n:03d}" for n in range(1, 20)]
    found = indicators(departures=departures_table(soc, sockets))
    assert found["ev_satisfaction_worst_decile"] == pytest.approx((0.5 + 1.0) / 2)
    assert indicators(departures=departures_table([0.4, 0.8]))[
        "ev_satisfaction_worst_decile"
    ] == pytest.approx(0.5)


def test_ramping_sums_the_changes_of_net_consumption():
    table = hours_table(grid_import_kwh=[3.0, 0, 0, 5], grid_export_kwh=[0, 4.0, 0, 0])
    assert indicators(table)["ramping_kw"] == pytest.approx(7 + 4 + 5)


def test_bess_throughput_and_cycles():
    found = indicators()
    assert found["bess_throughput_kwh"] == 8.0
    assert found["bess_cycles"] == pytest.approx(8 / (2 * 8))
    assert indicators(bess=None)["bess_cycles"] is None


def test_self_sufficiency_is_what_is_not_imported():
    assert indicators()["self_sufficiency"] == pytest.approx(1 - 16 / 40)


def test_feeder_use():
    table = hours_table(ev_draw_kwh=[10.0, 9.95, 5, 0], ev_discharge_kwh=[0.0, 0, 0, 2])
    found = indicators(table)
    assert found["feeder_utilisation"] == pytest.approx((24.95 - 2) / 40)
    assert found["feeder_full_hours"] == 2
    unlimited = indicators(table, feeder_limit_kw=float("inf"))
    assert unlimited["feeder_utilisation"] is None
    assert unlimited["feeder_full_hours"] is None


def test_profiles_are_sums_of_months_and_means_of_hours():
    table = hours_table(3, grid_import_kwh=[1.0, 2, 4])
    table["hour_of_year"] = [
        30 * 24 + 5,
        31 * 24 + 5,
        31 * 24 + 6,
    ]  # the last of January, the first of February
    profiles = indicators(table)["profiles"]
    assert profiles["monthly"]["grid_import_kwh"] == [1.0, 6.0] + [None] * 10
    hourly = profiles["hourly"]["grid_import_kwh"]
    assert (hourly[5], hourly[6]) == (1.5, 4.0)
    assert [value for k, value in enumerate(hourly) if k not in (5, 6)] == [None] * 22


def test_the_last_hour_of_the_year_is_in_december():
    table = hours_table(1, load_kwh=[2.0])
    table["hour_of_year"] = [8758]
    assert indicators(table)["profiles"]["monthly"]["load_kwh"][11] == 2.0


def test_without_departures_shares_of_them_are_none():
    found = indicators(departures=departures_table([]))
    assert found["full_charge_share"] is None
    assert found["ev_satisfaction_worst_decile"] is None
    assert found["ev_satisfaction_by_class"] == {}
