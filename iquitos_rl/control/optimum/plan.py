"""What a schedule does, counted as the environment counts it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.control.optimum.programme import Schedule
from iquitos_rl.control.optimum.window import FLUID, SiteWindow
from iquitos_rl.kpis import HOURS_PER_DAY, key_performance_indicators, total_objectives

__all__ = ["Plan", "plan_of", "received_kwh"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """A schedule and what comes of it.

    Attributes:
        bess_kw: power of the BESS, positive when it charges, shape (T,).
        sockets_kw: draw of each socket, shape (T, sockets); expected vehicles have none.
        bess_kwh: energy in the BESS at the end of each hour, shape (T,); zeros without one.
        hours: `iquitos_rl.kpis.HOURLY_COLUMNS`, each of shape (T,).
        kpis: as `iquitos_rl.kpis.key_performance_indicators` gives them.
        objectives: sums of the five, in the order of `iquitos_rl.objectives.OBJECTIVES`.
    """

    bess_kw: FloatArray
    sockets_kw: FloatArray
    bess_kwh: FloatArray
    hours: dict[str, FloatArray]
    kpis: dict[str, float | int | None]
    objectives: tuple[float, ...]


def received_kwh(window: SiteWindow, schedule: Schedule) -> FloatArray:
    """Energy into the battery of each session, shape (sessions,)."""
    s = window.sessions
    energy = schedule.draw_kw * s.efficiency[schedule.session]
    return np.asarray(np.bincount(schedule.session, weights=energy, minlength=len(s)), np.float64)


def plan_of(window: SiteWindow, schedule: Schedule) -> Plan:
    """Count what a schedule does."""
    s, hours = window.sessions, window.hours

    def per_hour(hour: NDArray[np.intp], values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(hour, weights=values, minlength=hours), np.float64)

    draw = per_hour(schedule.hour, schedule.draw_kw)
    delivered = per_hour(schedule.hour, schedule.draw_kw * s.efficiency[schedule.session])
    lack = np.maximum(s.need_kwh - received_kwh(window, schedule), 0.0)
    counted = s.departures > 0
    leaving = s.last[counted]
    charge, discharge = np.maximum(schedule.bess_kw, 0.0), np.maximum(-schedule.bess_kw, 0.0)
    if window.bess is None:
        stored_change = np.zeros(hours)
        bess_kwh = np.zeros(hours)
    else:
        stored_change = window.bess.root * charge - discharge / window.bess.root
        bess_kwh = window.bess.start_kwh + np.cumsum(stored_change)
    net = window.load_kwh - window.pv_kwh + schedule.bess_kw + draw
    columns = {
        # Only which hours make up a day matters.
        "hour_of_year": (window.day * HOURS_PER_DAY).astype(np.float64),
        "grid_import_kwh": np.maximum(net, 0.0),
        "grid_export_kwh": np.maximum(-net, 0.0),
        "load_kwh": window.load_kwh,
        "pv_generation_kwh": window.pv_kwh,
        "ev_draw_kwh": draw,
        "ev_discharge_kwh": np.zeros(hours),
        "ev_delivered_kwh": delivered,
        "bess_charge_kwh": charge,
        "bess_discharge_kwh": discharge,
        "storage_losses_kwh": charge - discharge - stored_change,
        "unserved_energy_kwh": per_hour(leaving, lack[counted]),
        "satisfaction_shortfall": per_hour(leaving, (lack * s.shortfall_per_kwh)[counted]),
        "ev_departures": per_hour(leaving, s.departures[counted]),
        "price_usd_per_kwh": window.price_usd_per_kwh,
        "carbon_intensity_kg_per_kwh": window.carbon_kg_per_kwh,
    }
    sockets_kw = np.zeros((hours, len(window.rated_kw)))
    there = s.socket[schedule.session] != FLUID
    sockets_kw[schedule.hour[there], s.socket[schedule.session[there]]] = schedule.draw_kw[there]
    return Plan(
        bess_kw=schedule.bess_kw,
        sockets_kw=sockets_kw,
        bess_kwh=bess_kwh,
        hours=columns,
        kpis=key_performance_indicators(
            columns,
            bess_stored_change_kwh=float(stored_change.sum()),
            unserved_kg_per_kwh=window.unserved_kg_per_kwh,
        ),
        objectives=total_objectives(columns, window.unserved_kg_per_kwh),
    )
