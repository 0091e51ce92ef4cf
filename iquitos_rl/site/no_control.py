"""No control in closed form: every socket asks for full power, the BESS is idle; no simulator is needed.

Under no control each socket gets its static share of the feeder, ``min(1, limit / installed)`` of its rated
power, whether the others are occupied or not. Every session is then independent of all others: its vehicle
takes the share hour by hour until it is full or leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iquitos_rl.config.site import SiteConfig
from iquitos_rl.kpis import key_performance_indicators, total_objectives
from iquitos_rl.objectives import NoControlReference, satisfaction, unserved_energy_kwh
from iquitos_rl.site.timeline import HOURS_PER_YEAR, STEPS_PER_YEAR
from iquitos_rl.site.year import SiteYear

__all__ = ["NO_CONTROL_COLUMNS", "NoControlYear", "no_control_hours", "no_control_year"]

FloatArray = NDArray[np.float64]

NO_CONTROL_COLUMNS = (
    "pv_generation_kwh",
    "load_kwh",
    "ev_draw_kwh",
    "ev_delivered_kwh",
    "grid_import_kwh",
    "grid_export_kwh",
    "v2g_losses_kwh",
    "unserved_energy_kwh",
    "satisfaction_shortfall",
    "ev_departures",
    "sessions_in_progress",
    "carbon_intensity_kg_per_kwh",
    "price_usd_per_kwh",
)
"""Columns of `NoControlYear.hourly`."""

_DECIMALS = 6
_COUNTS = ("ev_departures", "sessions_in_progress")


def no_control_hours(year: SiteYear, *, feeder_limited: bool = True) -> pd.DataFrame:
    """The hours of a year under no control, one row each (8760), with `NO_CONTROL_COLUMNS`.

    A departure is booked in its last connected hour; a session that lasts to the last row does not count.
    ``feeder_limited=False`` gives every vehicle its socket's full power: the ceiling of satisfaction.
    """
    sockets, sessions = year.sockets, year.sessions
    power = np.array([socket.power_kw for socket in sockets])
    efficiency = np.array([socket.efficiency for socket in sockets])
    capacity = np.array([socket.battery_capacity_kwh for socket in sockets])
    battery_power = np.array([socket.battery_power_kw for socket in sockets])
    share = min(1.0, year.feeder_limit_kw / float(power.sum())) if feeder_limited else 1.0

    which = sessions.socket
    hourly_kwh = np.minimum(share * power * efficiency, battery_power)[which]
    room_kwh = np.maximum(0.0, (1.0 - sessions.arrival_soc) * capacity[which])

    # One entry per connected hour of every session; `elapsed` counts the hours since its arrival.
    session = np.repeat(np.arange(len(sessions)), sessions.dwell)
    first = np.cumsum(sessions.dwell) - sessions.dwell
    elapsed = np.arange(len(session)) - first[session]
    row = sessions.start[session] + elapsed
    given = np.clip(room_kwh[session] - elapsed * hourly_kwh[session], 0.0, hourly_kwh[session])

    total = np.minimum(room_kwh, sessions.dwell * hourly_kwh)
    soc = sessions.arrival_soc + total / capacity[which]
    counted = sessions.end < HOURS_PER_YEAR
    last_row = (sessions.end - 1)[counted]
    satisfied = satisfaction(soc, sessions.required_soc)[counted]
    unserved = unserved_energy_kwh(soc, sessions.required_soc, capacity[which])[counted]

    def per_row(rows: NDArray[np.int64], values: FloatArray | None = None) -> FloatArray:
        return np.bincount(rows, weights=values, minlength=HOURS_PER_YEAR).astype(np.float64)

    draw = per_row(row, given / efficiency[which][session])
    # What a vehicle-to-grid socket loses counts against solar use, as in the environment's reward.
    v2g = np.array([socket.discharge_power_kw > 0 for socket in sockets])
    lost = np.where(v2g, 1.0 / efficiency - 1.0, 0.0)[which]
    net = year.load_kwh + draw - year.pv_generation_kwh
    columns: dict[str, NDArray[Any]] = {
        "pv_generation_kwh": year.pv_generation_kwh,
        "load_kwh": year.load_kwh,
        "ev_draw_kwh": draw,
        "ev_delivered_kwh": per_row(row, given),
        "grid_import_kwh": np.maximum(net, 0.0),
        "grid_export_kwh": np.maximum(-net, 0.0),
        "v2g_losses_kwh": per_row(row, lost[session] * given),
        "unserved_energy_kwh": per_row(last_row, unserved),
        "satisfaction_shortfall": per_row(last_row, 1.0 - satisfied),
        "ev_departures": per_row(last_row),
        "sessions_in_progress": per_row(row[elapsed > 0]),
        "carbon_intensity_kg_per_kwh": year.carbon_intensity_kg_per_kwh,
        "price_usd_per_kwh": year.price_usd_per_kwh,
    }
    return pd.DataFrame(
        {
            name: columns[name].astype(np.int64) if name in _COUNTS else columns[name].round(_DECIMALS)
            for name in NO_CONTROL_COLUMNS
        }
    )


@dataclass(frozen=True, eq=False)
class NoControlYear:
    """A year under no control: what every score and reward of that year is divided by.

    Attributes:
        hourly: 8760 rows with `NO_CONTROL_COLUMNS`; energies in kWh. ``satisfaction_shortfall`` is the sum of
            (1 - satisfaction) of the vehicles that leave at the end of the hour, ``v2g_losses_kwh`` what
            sockets that may discharge draw beyond what their vehicles take in, and ``sessions_in_progress``
            counts the sessions that began before the hour and go on in it. The last row (8759) is no step
            and enters no sum.
        site: for its BESS, which is idle but may have standby losses, and its CO2 of unserved energy.
    """

    hourly: pd.DataFrame
    site: SiteConfig

    @cached_property
    def _columns(self) -> dict[str, FloatArray]:
        return {name: self.hourly[name].to_numpy(dtype=np.float64) for name in NO_CONTROL_COLUMNS}

    def closed_form_valid(self, start: int) -> bool:
        """Whether `reference` knows an episode that starts at row ``start``.

        False if a session is in progress there: CityLearn then begins with the vehicle's initial SOC, which
        is not the one no control would have left. Roll out instead.
        """
        self._check_window(start, 1)
        return bool(self._columns["sessions_in_progress"][start] == 0)

    def _hours(self, start: int, steps: int) -> dict[str, FloatArray]:
        """`iquitos_rl.kpis.HOURLY_COLUMNS` of the hours ``start .. start + steps - 1``."""
        stored = {name: values[start : start + steps] for name, values in self._columns.items()}
        idle = dict.fromkeys(("ev_discharge_kwh", "bess_charge_kwh", "bess_discharge_kwh"), np.zeros(steps))
        return {
            **stored,
            **idle,
            "hour_of_year": np.arange(start, start + steps, dtype=np.float64),
            "storage_losses_kwh": stored["v2g_losses_kwh"] + _idle_bess_loss_kwh(self.site, steps),
        }

    def reference(self, start: int = 0, steps: int | None = None) -> NoControlReference:
        """Objectives of no control over the hours ``start .. start + steps - 1`` (to row 8758 if left out).

        Daily peaks are those of the hours 0-23 of each calendar day, as far as they lie in the window.

        Raises:
            ValueError: the window leaves the year, or a session is in progress at its start.
        """
        steps = STEPS_PER_YEAR - start if steps is None else steps
        self._check_window(start, steps)
        if not self.closed_form_valid(start):
            raise ValueError(f"a session is in progress at row {start}: roll out no control instead")
        hours = self._hours(start, steps)
        return NoControlReference(
            objectives=total_objectives(hours, self.site.unserved_energy_kg_per_kwh),
            steps=steps,
            pv_generation_kwh=math.fsum(hours["pv_generation_kwh"].tolist()),
            departures=math.fsum(hours["ev_departures"].tolist()),
        )

    def totals(self) -> dict[str, Any]:
        """KPIs of the year's 8,759 steps under the project's KPI names, and `reference` as JSON."""
        hours = self._hours(0, STEPS_PER_YEAR)
        kpis = key_performance_indicators(
            hours,
            bess_stored_change_kwh=0.0 - math.fsum(_idle_bess_loss_kwh(self.site, STEPS_PER_YEAR).tolist()),
            unserved_kg_per_kwh=self.site.unserved_energy_kg_per_kwh,
        )
        return {
            "controller": "no_control",
            "engine": "closed_form",
            **{name: round(v, _DECIMALS) if isinstance(v, float) else v for name, v in kpis.items()},
            "reference": _rounded(self.reference()).to_json(),
        }

    @staticmethod
    def _check_window(start: int, steps: int) -> None:
        if start < 0 or steps < 1 or start + steps > STEPS_PER_YEAR:
            raise ValueError(
                f"rows {start} to {start + steps - 1} are not a window of the year: its steps are rows "
                f"0 to {STEPS_PER_YEAR - 1}"
            )


def no_control_year(year: SiteYear, site: SiteConfig) -> NoControlYear:
    """No control of a year in closed form."""
    return NoControlYear(no_control_hours(year), site)


def _rounded(reference: NoControlReference) -> NoControlReference:
    return NoControlReference(
        objectives=tuple(round(value, _DECIMALS) for value in reference.objectives),
        steps=reference.steps,
        pv_generation_kwh=round(reference.pv_generation_kwh, _DECIMALS),
        departures=reference.departures,
    )


def _idle_bess_loss_kwh(site: SiteConfig, steps: int) -> FloatArray:
    """Standby loss (kWh) of the idle BESS in each hour of an episode, shape (steps,).

    As CityLearn does it: the SOC is multiplied by (1 - loss) between one step and the next, never below the
    floor. The first step therefore loses nothing.
    """
    bess = site.bess
    if bess is None or bess.standby_loss_per_hour == 0:
        return np.zeros(steps)
    floor = 1.0 - bess.depth_of_discharge
    soc = np.maximum(floor, bess.initial_soc * (1.0 - bess.standby_loss_per_hour) ** np.arange(steps))
    return bess.capacity_kwh * -np.diff(soc, prepend=bess.initial_soc)
