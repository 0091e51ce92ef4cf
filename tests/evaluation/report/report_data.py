"""A report's data in small: figures that are easy to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from iquitos_rl.evaluation.report import ReportData

COMPONENTS = {"co2": 0.5, "solar": 0.2, "cost": 0.15, "ev_satisfaction": 0.1, "grid_stability": 0.05}
PV_OF_DAY_KWH = (50.0, 10.0, 40.0, 20.0, 30.0)
"""Five days: the median is day 4 (30 kWh), the least sunny one day 1."""


def row(controller: str, kind: str = "rule", **changes: Any) -> dict[str, Any]:
    """A row of the comparison, as no control's but for the changes."""
    values: dict[str, Any] = {
        "controller": controller,
        "kind": kind,
        "grid_import_kwh": 420_000.0,
        "ev_satisfaction": 0.78,
        "solar_utilisation": 0.4,
        "co2_grid_kg": 190_000.0,
        "co2_avoided_solar_kg": 128_000.0,
        "co2_net_kg": 62_000.0,
        "co2_unserved_kg": 300_000.0,
        "cost_usd": 110_000.0,
        "mean_daily_peak_kw": 194.0,
        "score": 1.0,
        "score_components": dict(COMPONENTS),
        "import_change_share": 0.0,
        "co2_change_share": 0.0,
        "cost_change_share": 0.0,
        "captured_share": 0.0,
        "meets_service": False,
        "expected": None,
        "training_seconds": None,
        "seeds": 1,
        "intervals": {},
        "ev_satisfaction_by_class": {"moto": 0.79, "mototaxi": 0.71},
        "full_charge_share": 0.25,
    }
    return values | changes


def rule(**changes: Any) -> dict[str, Any]:
    """The best rule."""
    values: dict[str, Any] = {
        "ev_satisfaction": 0.94,
        "grid_import_kwh": 336_000.0,
        "import_change_share": -0.2,
        "score": 0.58,
        "captured_share": 0.945,
        "meets_service": True,
        "co2_net_kg": -61_000.0,
        "solar_utilisation": 0.665,
    }
    return row("best_rule", "rule", **values | changes)


def agent(controller: str = "sac", **changes: Any) -> dict[str, Any]:
    """An agent that serves, and is not as good as the rule."""
    values: dict[str, Any] = {
        "ev_satisfaction": 0.91,
        "grid_import_kwh": 330_540.0,
        "import_change_share": -0.213,
        "score": 0.62,
        "captured_share": 0.855,
        "meets_service": True,
        "co2_net_kg": -58_400.0,
        "solar_utilisation": 0.66,
        "training_seconds": 5400.0,
        "expected": {
            "import_change_share": -0.18,
            "solar_utilisation": 0.65,
            "ev_satisfaction": 0.91,
            "co2_net_kg": -45_000.0,
        },
    }
    return row(controller, "agent", **values | changes)


def optimum(**changes: Any) -> dict[str, Any]:
    """The physical limit."""
    values: dict[str, Any] = {
        "ev_satisfaction": 0.947,
        "grid_import_kwh": 331_000.0,
        "import_change_share": -0.212,
        "score": 0.556,
        "captured_share": 1.0,
        "meets_service": True,
        "co2_net_kg": -62_500.0,
    }
    return row("oracle", "optimum", **values | changes)


def ladder() -> list[dict[str, Any]]:
    """No control, a rule, the optimum and an agent."""
    return [row("no_control"), rule(), optimum(), agent()]


def hours(pv_of_day_kwh: Sequence[float] = PV_OF_DAY_KWH, first_hour: int = 0) -> pd.DataFrame:
    """Hourly flows of some days, balanced: PV at noon, a load of 10 kW, vehicles in the evening."""
    count = 24 * len(pv_of_day_kwh)
    hour = np.arange(count)
    pv = np.where(hour % 24 == 12, np.repeat(pv_of_day_kwh, 24), 0.0)
    ev = np.where(hour % 24 >= 20, 5.0, 0.0)
    net = 10.0 + ev - pv
    return pd.DataFrame(
        {
            "hour_of_year": first_hour + hour,
            "grid_import_kwh": np.maximum(net, 0.0),
            "grid_export_kwh": np.maximum(-net, 0.0),
            "load_kwh": 10.0,
            "pv_generation_kwh": pv,
            "ev_draw_kwh": ev,
            "ev_discharge_kwh": 0.0,
            "bess_charge_kwh": 0.0,
            "bess_discharge_kwh": 0.0,
            "bess_stored_kwh": 120.0,
        }
    )


def departures(satisfaction: float = 0.9) -> pd.DataFrame:
    """Ten motos that come at 17 h and one mototaxi that comes at 18 h on each of five days."""
    rows = [
        {
            "socket": f"{kind}_{number:03d}",
            "vehicle_class": kind,
            "arrival_hour_of_year": 24 * day + arrival,
            "departure_hour_of_year": 24 * day + 21,
            "arrival_soc": 0.3,
            "soc": 0.9 * satisfaction,
            "required_soc": 0.9,
            "capacity_kwh": 3.0,
            "satisfaction": satisfaction,
            "unserved_kwh": 3.0 * 0.9 * (1 - satisfaction),
        }
        for day in range(5)
        for kind, count, arrival in (("moto", 10, 17), ("mototaxi", 1, 18))
        for number in range(count)
    ]
    return pd.DataFrame(rows)


def learning() -> pd.DataFrame:
    """A curve of three points."""
    return pd.DataFrame(
        {
            "env_steps": [0, 1000, 2000],
            "validation_score": [1.8, 0.9, 0.63],
            "validation_satisfaction": [0.4, 0.8, 0.91],
        }
    )


def report_data(**changes: Any) -> ReportData:
    """Everything a report can show, but for the changes."""
    names = ("no_control", "best_rule", "oracle", "sac")
    values: dict[str, Any] = {
        "title": "train_all",
        "site": "iquitos_station",
        "split": "test",
        "year": 0,
        "window": {"start_step": 0, "steps": 120},
        "engine": "batch",
        "dataset_fingerprint": "3f9c" * 16,
        "versions": {"iquitos_rl": "0.1.0", "ray": "2.60.0"},
        "generated": "2026-11-23T14:20:00+00:00",
        "demonstration": False,
        "minimum_satisfaction": 0.88,
        "rows": ladder(),
        "hours": {name: hours() for name in names},
        "departures": {name: departures() for name in names},
        "learning": {"sac": learning()},
        "frontier": pd.DataFrame(
            {"ev_satisfaction": [0.7, 0.88, 0.947], "grid_import_kwh": [1.5e5, 2.65e5, 3.31e5]}
        ),
        "bess_capacity_kwh": 600.0,
    }
    return ReportData(**values | changes)
