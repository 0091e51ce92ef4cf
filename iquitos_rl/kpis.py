"""Key performance indicators of a run of hours: their definitions, and the objectives they are scored by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iquitos_rl.objectives import FlowIncrements, objective_increments

__all__ = [
    "DEFINITIONS",
    "ENERGY_FLOWS",
    "HOURLY_COLUMNS",
    "daily_peaks_kw",
    "energy_balance_error",
    "key_performance_indicators",
    "total_objectives",
]

FloatArray = NDArray[np.float64]

HOURS_PER_DAY = 24
ENERGY_FLOWS = (
    "grid_import_kwh",
    "grid_export_kwh",
    "load_kwh",
    "pv_generation_kwh",
    "ev_draw_kwh",
    "bess_charge_kwh",
    "bess_discharge_kwh",
)
"""All energy that flows at a site."""
DEFINITIONS = 1
"""Raised whenever a KPI or the score is defined anew: results of different definitions are not compared."""

HOURLY_COLUMNS = (
    "hour_of_year",
    "grid_import_kwh",
    "grid_export_kwh",
    "load_kwh",
    "pv_generation_kwh",
    "ev_draw_kwh",
    "ev_discharge_kwh",
    "ev_delivered_kwh",
    "bess_charge_kwh",
    "bess_discharge_kwh",
    "storage_losses_kwh",
    "unserved_energy_kwh",
    "satisfaction_shortfall",
    "ev_departures",
    "price_usd_per_kwh",
    "carbon_intensity_kg_per_kwh",
)
"""What is needed of every hour; energies at the grid connection, ``ev_delivered_kwh`` into batteries."""


def _sum(values: FloatArray) -> float:
    # math.fsum, because numpy's order of summation depends on the processor's vector width.
    return math.fsum(values.tolist())


def daily_peaks_kw(hour_of_year: ArrayLike, grid_import_kwh: ArrayLike) -> FloatArray:
    """Highest hourly import (kW) of each calendar day (hours 0-23) among the given hours."""
    day = np.asarray(hour_of_year, np.int64) // HOURS_PER_DAY
    first_hours = np.flatnonzero(np.diff(day, prepend=day[0] - 1))
    return np.maximum.reduceat(np.asarray(grid_import_kwh, float), first_hours)


def total_objectives(hours: Mapping[str, ArrayLike], unserved_kg_per_kwh: float) -> tuple[float, ...]:
    """Sum of each objective over the hours, in the order of `iquitos_rl.objectives.OBJECTIVES`.

    Args:
        hours: `HOURLY_COLUMNS`, one value per hour, in the order of time.
        unserved_kg_per_kwh: CO2 of a kWh that a vehicle drives on gasoline instead.
    """
    column = {name: np.asarray(hours[name], float) for name in HOURLY_COLUMNS}
    increments = objective_increments(
        FlowIncrements(
            grid_import_kwh=column["grid_import_kwh"],
            grid_export_kwh=column["grid_export_kwh"],
            storage_loss_kwh=column["storage_losses_kwh"],
            unserved_kwh=column["unserved_energy_kwh"],
            shortfall=column["satisfaction_shortfall"],
            peak_rise_kw=0.0,  # summed over a day, the rises are its peak
            carbon_intensity_kg_per_kwh=column["carbon_intensity_kg_per_kwh"],
            price_usd_per_kwh=column["price_usd_per_kwh"],
            unserved_kg_per_kwh=unserved_kg_per_kwh,
        )
    )
    totals = [_sum(values) for values in increments.T]
    totals[-1] = _sum(daily_peaks_kw(column["hour_of_year"], column["grid_import_kwh"]))
    return tuple(totals)


def key_performance_indicators(
    hours: Mapping[str, ArrayLike], *, bess_stored_change_kwh: float, unserved_kg_per_kwh: float
) -> dict[str, float | int | None]:
    """KPIs over the hours, units in the names, shares 0-1; None where a share has nothing to divide by.

    Args:
        hours: `HOURLY_COLUMNS`, one value per hour, in the order of time.
        bess_stored_change_kwh: energy in the BESS at the end less that at the start.
        unserved_kg_per_kwh: CO2 of a kWh that a vehicle drives on gasoline instead.
    """
    column = {name: np.asarray(hours[name], float) for name in HOURLY_COLUMNS}
    total = {name: _sum(values) for name, values in column.items() if name.endswith("_kwh")}
    carbon = column["carbon_intensity_kg_per_kwh"]
    pv, export = total["pv_generation_kwh"], total["grid_export_kwh"]
    pv_used = max(0.0, pv - export)  # an exported kWh counts against PV whenever and from wherever it leaves
    departures = round(_sum(column["ev_departures"]))
    shortfall = _sum(column["satisfaction_shortfall"])
    co2_grid = _sum(column["grid_import_kwh"] * carbon)
    co2_avoided = _sum((column["pv_generation_kwh"] - column["grid_export_kwh"]) * carbon)
    peaks = daily_peaks_kw(column["hour_of_year"], column["grid_import_kwh"])
    return {
        "grid_import_kwh": total["grid_import_kwh"],
        "grid_export_kwh": export,
        "load_kwh": total["load_kwh"],
        "ev_draw_kwh": total["ev_draw_kwh"],
        "ev_discharge_kwh": total["ev_discharge_kwh"],
        "ev_delivered_kwh": total["ev_delivered_kwh"],
        "bess_charge_kwh": total["bess_charge_kwh"],
        "bess_discharge_kwh": total["bess_discharge_kwh"],
        "bess_stored_change_kwh": bess_stored_change_kwh,
        "storage_losses_kwh": total["storage_losses_kwh"],
        "pv_generation_kwh": pv,
        "pv_used_kwh": pv_used,
        "solar_utilisation": pv_used / pv if pv > 0 else None,
        "ev_satisfaction": 1.0 - shortfall / departures if departures else None,
        "ev_departures": departures,
        "unserved_energy_kwh": total["unserved_energy_kwh"],
        "co2_grid_kg": co2_grid,
        "co2_avoided_solar_kg": co2_avoided,
        "co2_net_kg": co2_grid - co2_avoided,
        "co2_unserved_kg": total["unserved_energy_kwh"] * unserved_kg_per_kwh,
        "cost_usd": _sum(column["grid_import_kwh"] * column["price_usd_per_kwh"]),
        "peak_import_kw": float(column["grid_import_kwh"].max()),
        "mean_daily_peak_kw": _sum(peaks) / len(peaks),
    }


def energy_balance_error(kpis: Mapping[str, Any], *, vehicles_discharge: bool = False) -> float:
    """By how much energy is not conserved, as a share of all that flows; from the KPIs alone.

    Two balances, the worse one counts: at the grid connection, import less export is what load, vehicles and
    BESS consume less PV; in the BESS, what goes in less what comes out is stored or lost. Where vehicles may
    discharge, their sockets' losses are among the storage losses, and only the first is checked.
    """
    moved = max(sum(kpis[name] for name in ENERGY_FLOWS), 1e-6)
    bess = kpis["bess_charge_kwh"] - kpis["bess_discharge_kwh"]
    vehicles = kpis["ev_draw_kwh"] - kpis["ev_discharge_kwh"]
    consumed = kpis["load_kwh"] + vehicles + bess - kpis["pv_generation_kwh"]
    at_the_grid = abs(kpis["grid_import_kwh"] - kpis["grid_export_kwh"] - consumed)
    in_the_bess = abs(bess - kpis["bess_stored_change_kwh"] - kpis["storage_losses_kwh"])
    errors = (at_the_grid, 0.0 if vehicles_discharge else in_the_bess)
    return float(max(errors) / moved)
