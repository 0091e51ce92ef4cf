"""Further key performance indicators: of service and fairness, of the BESS, the feeder and the grid.

Those that define the score are in `iquitos_rl.kpis`. Units are in the names, shares are 0-1; a share with
nothing to divide by is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iquitos_rl.env.situation import Plant
from iquitos_rl.kpis import ENERGY_FLOWS

__all__ = ["further_indicators", "vehicle_classes"]

FULL_TOLERANCE = 1e-4
"""A vehicle this close to its required SOC left charged: engines keep SOCs in single precision."""
FEEDER_FULL_SHARE = 0.99
"""The feeder is full from this share of its limit on."""
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def vehicle_classes(departures: pd.DataFrame, classes: tuple[str, ...]) -> NDArray[Any]:
    """Class of each vehicle: that whose name its socket's begins with; the socket's own if there is none."""
    names = {}
    for socket in departures["socket"].unique():
        fitting = [name for name in classes if socket.startswith(f"{name}_")]
        names[socket] = max(fitting, key=len, default=str(socket))
    return departures["socket"].map(names).to_numpy(object)


def further_indicators(
    hours: pd.DataFrame, departures: pd.DataFrame, kpis: Mapping[str, Any], plant: Plant
) -> dict[str, Any]:
    """Indicators of a rollout.

    Args:
        hours: the flows of its hours.
        departures: of its vehicles, with their ``vehicle_class``.
        kpis: those of `iquitos_rl.kpis.key_performance_indicators`.
        plant: the site.

    Returns:
        - ``full_charge_share``: departures with the required SOC;
        - ``ev_satisfaction_by_class``; ``ev_satisfaction_worst_decile``: mean over the tenth of the sockets
          (at least one) whose vehicles are served worst;
        - ``ramping_kw``: sum of the absolute changes of net consumption from hour to hour, as CityLearn's;
        - ``bess_throughput_kwh``: charged and discharged; ``bess_cycles``: that by twice the usable capacity;
        - ``self_sufficiency``: share of what load and vehicles draw that is not imported;
        - ``feeder_utilisation``: what vehicles draw as a share of the feeder's limit over all hours;
          ``feeder_full_hours``: hours in which they draw 99 % of it or more;
        - ``profiles``: ``monthly`` sums and ``hourly`` means by hour of day of
          `iquitos_rl.kpis.ENERGY_FLOWS`.
    """
    draw = hours["ev_draw_kwh"].to_numpy(float) - hours["ev_discharge_kwh"].to_numpy(float)
    net = hours["grid_import_kwh"].to_numpy(float) - hours["grid_export_kwh"].to_numpy(float)
    consumed = kpis["load_kwh"] + kpis["ev_draw_kwh"]
    throughput = kpis["bess_charge_kwh"] + kpis["bess_discharge_kwh"]
    limited = math.isfinite(plant.feeder_limit_kw) and plant.feeder_limit_kw > 0
    full = departures["soc"] >= departures["required_soc"] - FULL_TOLERANCE
    by_class = departures.groupby("vehicle_class")["satisfaction"].mean()
    return {
        "full_charge_share": float(full.mean()) if len(departures) else None,
        "ev_satisfaction_by_class": {str(name): float(value) for name, value in by_class.items()},
        "ev_satisfaction_worst_decile": _worst_decile(departures),
        "ramping_kw": math.fsum(np.abs(np.diff(net)).tolist()),
        "bess_throughput_kwh": throughput,
        "bess_cycles": throughput / (2 * plant.bess.usable_kwh) if plant.bess else None,
        "self_sufficiency": 1.0 - kpis["grid_import_kwh"] / consumed if consumed > 0 else None,
        "feeder_utilisation": float(draw.mean()) / plant.feeder_limit_kw if limited else None,
        "feeder_full_hours": (
            int((draw >= FEEDER_FULL_SHARE * plant.feeder_limit_kw).sum()) if limited else None
        ),
        "profiles": _profiles(hours),
    }


def _worst_decile(departures: pd.DataFrame) -> float | None:
    """Mean satisfaction at the tenth of the sockets that is served worst."""
    if not len(departures):
        return None
    of_socket = departures.groupby("socket")["satisfaction"].mean().sort_values().to_numpy()
    return float(of_socket[: max(1, len(of_socket) // 10)].mean())


def _profiles(hours: pd.DataFrame) -> dict[str, dict[str, list[float | None]]]:
    """Sums of each month and means of each hour of day; None for those without an hour."""
    hour_of_year = hours["hour_of_year"].to_numpy(int)
    month = np.repeat(np.arange(12), MONTH_DAYS)[hour_of_year // 24 % 365]
    flows = hours[list(ENERGY_FLOWS)]
    monthly = flows.groupby(month).sum().reindex(range(12))
    hourly = flows.groupby(hour_of_year % 24).mean().reindex(range(24))

    def as_lists(table: pd.DataFrame) -> dict[str, list[float | None]]:
        return {
            str(name): [None if math.isnan(value) else float(value) for value in table[name]]
            for name in table.columns
        }

    return {"monthly": as_lists(monthly), "hourly": as_lists(hourly)}
