"""CityLearn's own flat observation of many environments: its names, its order, its values.

What does not depend on actions is one table, a row for each hour; the rest is that of one hour before, as in
CityLearn. Sources, of CityLearn 3.0.2: ``internal.building_ops.BuildingOpsService.get_observations_data`` and
``update_ev_charger_observations`` for values, ``internal.loading.process_metadata`` and
``building.Building._initialize_charging_constraints`` for names. See docs/engine.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from citylearn.data import CarbonIntensity, EnergySimulation, Pricing, TimeSeriesData, Weather
from numpy.typing import NDArray

from iquitos_rl.env.batch.hour import Hour
from iquitos_rl.env.batch.schema import SECONDS_PER_STEP, SiteParameters, UnsupportedSchemaError
from iquitos_rl.env.batch.tables import CONNECTED, INCOMING, NO_SOC, NO_TIME, ChargerTables, SiteTables
from iquitos_rl.site.storage import read_table

if TYPE_CHECKING:  # it uses this module
    from iquitos_rl.env.batch.years import SiteYears

__all__ = ["RawWriter", "raw_names", "raw_table"]

Float = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]
Index = NDArray[np.intp]

NO_CAPACITY = -1.0
"""CityLearn's capacity of the vehicle that is not there."""

BESS_SOC = "electrical_storage_soc"
BESS_KWH = "electrical_storage_electricity_consumption"
NET_KWH = "net_electricity_consumption"
LIVE = {NET_KWH: "net_kwh", BESS_KWH: "bess_kwh", BESS_SOC: "bess_soc"}
"""Observations of the site that follow from actions, and what an hour calls them."""
HEADROOM = "charging_building_headroom_kw"
VIOLATION = "charging_constraint_violation_kwh"
ONE_HOT = "charging_phase_one_hot_"

SOC = "connected_electric_vehicle_at_charger_soc"
SOCKET_OBSERVATIONS = (
    "electric_vehicle_charger_connected_state",
    "connected_electric_vehicle_at_charger_departure_time",
    "connected_electric_vehicle_at_charger_required_soc_departure",
    SOC,
    "connected_electric_vehicle_at_charger_battery_capacity",
    "electric_vehicle_charger_incoming_state",
    "incoming_electric_vehicle_at_charger_estimated_arrival_time",
    "incoming_electric_vehicle_at_charger_estimated_soc_arrival",
)
"""A schema's names for what each socket shows, in CityLearn's order."""
OTHER_DEVICES = ("deferrable_appliance_", "escalator_")
"""Beginnings of names that CityLearn gives to devices that our sites do not have."""

CLOCK = ("minutes", "seconds")
"""Shown only if the site's table has them."""
INDOORS = "indoor_dry_bulb_temperature"
SET_POINTS = {f"{INDOORS}_{way}_delta": f"{INDOORS}_{way}_set_point" for way in ("cooling", "heating")}
"""Differences of the indoor temperature to set points."""
ALWAYS_ZERO = {"power_outage"} | {
    f"{kind}_{what}"
    for kind in ("cooling", "heating", "dhw")
    for what in ("storage_soc", "electricity_consumption", "storage_electricity_consumption")
}
"""Of thermal devices without demand; and of outages, which CityLearn overlooks unless it simulates them."""
CONTROLLED = (
    INDOORS, *SET_POINTS.values(), "indoor_relative_humidity", "non_shiftable_load", "cooling_demand",
    "heating_demand", "dhw_demand",
)  # fmt: skip
FORECAST = (
    "outdoor_dry_bulb_temperature", "outdoor_relative_humidity", "diffuse_solar_irradiance",
    "direct_solar_irradiance", "electricity_pricing",
)  # fmt: skip
MODELLED = {
    *CLOCK, "month", "hour", "day_type", "daylight_savings_status", "hvac_mode", "comfort_band",
    "occupant_count", "average_unmet_cooling_setpoint_difference", "carbon_intensity", "solar_generation",
    *(f"{name}{suffix}" for name in CONTROLLED for suffix in ("", "_without_control")),
    *(f"{name}{suffix}" for name in FORECAST for suffix in ("", *(f"_predicted_{k}" for k in (1, 2, 3)))),
    *SET_POINTS, *ALWAYS_ZERO, *LIVE,
}  # fmt: skip
"""Observations of the site, but for those of charging constraints."""


def raw_names(parameters: SiteParameters) -> list[str]:
    """Names of CityLearn's observations, in its order: the site's, then each socket's.

    Raises:
        UnsupportedSchemaError: observations are active that the engine does not model.
        DatasetError: the site's table is unreadable (it is read only if minutes or seconds are active).
    """
    shown = _socket_observations(parameters)
    return [
        *_site_names(parameters),
        *(name.replace("charger_", f"charger_{s}_", 1) for s in parameters.socket_names for name in shown),
    ]


def _socket_observations(parameters: SiteParameters) -> list[str]:
    return [name for name in SOCKET_OBSERVATIONS if name in parameters.socket_observations]


def _site_names(parameters: SiteParameters) -> list[str]:
    # Declared, not just active: what charging constraints switch on is shown in the place of its declaration.
    declared: Mapping[str, Any] = json.loads(parameters.schema.read_text(encoding="utf-8"))["observations"]
    shown = {
        name: name in parameters.observations
        for name in declared
        if not name.startswith(OTHER_DEVICES) and "electric_vehicle_" not in name
    }
    one_hot, headroom = _one_hot(parameters), _headroom(parameters)
    shown |= dict.fromkeys(one_hot, True)
    for name in headroom:
        shown.setdefault(name, True)
    if parameters.constrained or VIOLATION in shown:
        shown[VIOLATION] = parameters.observed_violation
    if any(shown.get(name) for name in CLOCK):
        columns = read_table(parameters.site_table).columns
        shown |= {name: False for name in CLOCK if name not in columns}
    names = [name for name, is_shown in shown.items() if is_shown]
    known = {*MODELLED, *one_hot, *headroom, VIOLATION}
    missing = [f"observation {n}" for n in names if n not in known and not n.startswith(ONE_HOT)]
    if missing:
        raise UnsupportedSchemaError(parameters.schema, missing)
    # CityLearn passes over a socket's phase that is active and that the site does not have.
    return [name for name in names if name in known]


def _one_hot(parameters: SiteParameters) -> dict[str, float]:
    """Which phase each socket is on: names and values."""
    if not parameters.observed_phases or not parameters.phases:
        return {}
    phase_of = {socket: phase.name for phase in parameters.phases for socket in phase.sockets}
    phases = sorted({phase.name for phase in parameters.phases})
    if any(socket not in phase_of for socket in parameters.socket_names):
        phases.append("unassigned")
    return {
        f"{ONE_HOT}{socket}_{phase}": float(phase_of.get(socket, "unassigned") == phase)
        for socket in parameters.socket_names
        for phase in phases
    }


def _headroom(parameters: SiteParameters) -> dict[str, tuple[float, Index]]:
    """What is shown of limits on charging power: name to limit (kW) and the numbers of its sockets."""
    if not parameters.observed_headroom:
        return {}
    names = parameters.socket_names
    shown = {}
    if parameters.limit_kw is not None:
        shown[HEADROOM] = (parameters.limit_kw, np.arange(len(names)))
    # Of phases with one name CityLearn shows the last.
    for phase in {phase.name: phase for phase in parameters.phases}.values():
        if phase.limit_kw is not None:
            sockets = [names.index(socket) for socket in phase.sockets if socket in names]
            shown[f"charging_phase_{phase.name}_headroom_kw"] = (phase.limit_kw, np.array(sockets, np.intp))
    return shown


def raw_table(parameters: SiteParameters, site: SiteTables, sockets: ChargerTables) -> Float32:
    """CityLearn's observation of each hour of a year, as far as it does not depend on actions.

    What does is there as it would be shown after a reset to that hour: net consumption of the load and PV,
    the BESS at its initial state of charge, headroom as large as the limits, no violation. A socket's state
    of charge is the one that a vehicle is shown with in the hour of its arrival (but for the first two hours
    of an episode), and NaN if the vehicle has been there the hour before.

    Args:
        parameters: of the year.
        site, sockets: its tables.

    Returns:
        Shape (rows, names), as `raw_names`.

    Raises:
        UnsupportedSchemaError: as `raw_names`; or vehicles that are shown with a state of charge that drifts
            at random.
        DatasetError: a table is missing or unreadable.
        ValueError: a table that CityLearn would not take.
    """
    names, shown = _site_names(parameters), _socket_observations(parameters)
    width = len(names) + len(shown) * len(parameters.chargers)
    table = np.zeros((parameters.rows, width), np.float32)
    series = _series(parameters, site)
    for column, name in enumerate(names):
        table[:, column] = series.get(name, 0.0)
    blocks = table[:, len(names) :].reshape(parameters.rows, len(parameters.chargers), len(shown), copy=False)
    values = _socket_values(parameters, sockets)
    for number, name in enumerate(shown):
        blocks[:, :, number] = values[name]
    return table


def _series(parameters: SiteParameters, site: SiteTables) -> dict[str, NDArray[Any] | float]:
    """The site's observations that are not always 0."""

    def read(kind: type[TimeSeriesData], path: Path | None, **options: float) -> TimeSeriesData:
        if path is None:
            return TimeSeriesData()
        table = read_table(path).iloc[parameters.first_row :].iloc[: parameters.rows]
        if len(table) < parameters.rows:
            raise ValueError(f"{path}: {parameters.rows - len(table)} rows too few")
        try:
            return kind(**{str(name): values.to_numpy() for name, values in table.items()}, **options)
        except (TypeError, ValueError, AssertionError) as error:
            raise ValueError(f"{path}: CityLearn does not take this table ({error})") from None

    # CityLearn's own classes: they know defaults, types and bounds of optional columns.
    sources = (
        read(EnergySimulation, parameters.site_table, seconds_per_time_step=SECONDS_PER_STEP),
        read(Weather, parameters.weather_table),
        read(Pricing, parameters.pricing_table),
        read(CarbonIntensity, parameters.carbon_table),
    )
    series: dict[str, NDArray[Any] | float] = {
        name.removeprefix("_"): values
        for source in sources
        for name, values in vars(source).items()
        if isinstance(values, np.ndarray)
    }
    series |= {name: series[INDOORS] - series[set_point] for name, set_point in SET_POINTS.items()}
    series |= dict.fromkeys(ALWAYS_ZERO, 0.0)  # a table may have outages that are not simulated
    series["solar_generation"] = site.pv_kwh
    series[BESS_SOC] = 0.0 if parameters.bess is None else parameters.bess.initial_soc
    series[NET_KWH] = site.load_kwh - site.pv_kwh
    series |= {name: limit for name, (limit, _) in _headroom(parameters).items()}
    return series | _one_hot(parameters)


def _socket_values(parameters: SiteParameters, sockets: ChargerTables) -> dict[str, NDArray[Any]]:
    """What the sockets show, each of shape (rows, sockets), by its name in the schema."""
    here = sockets.vehicle >= 0
    coming = (sockets.state == INCOMING) & (sockets.named >= 0)
    capacity = np.array([v.capacity_kwh for v in parameters.vehicles.values()] + [NO_CAPACITY])
    values = (
        here,
        np.where(here, sockets.hours_left, NO_TIME),
        np.where(here, sockets.required_soc, NO_SOC),
        _soc_before(parameters, sockets),
        capacity[sockets.vehicle],
        coming,
        np.where(coming, sockets.arrival_hours, NO_TIME),
        np.where(coming, sockets.estimated_soc, NO_SOC),
    )
    return dict(zip(SOCKET_OBSERVATIONS, values, strict=True))


def _soc_before(parameters: SiteParameters, sockets: ChargerTables) -> Float32:
    """State of charge that the battery at a socket held in the hour before; as in `raw_table`.

    A vehicle that is away drifts at random, but in the hour before it comes to a free socket CityLearn gives
    it what it takes for the state of charge of its arrival. That is not always what the arrival itself reads:
    see ``internal.runtime.CityLearnRuntimeService.simulate_unconnected_ev_soc``.
    """
    vehicle, state, estimated = sockets.vehicle, sockets.state, sockets.estimated_soc
    came = vehicle >= 0
    came[1:] &= vehicle[1:] != vehicle[:-1]
    announced = (state[:-1] == INCOMING) & (sockets.named[:-1] == vehicle[1:])
    connecting = np.where(announced, estimated[:-1], estimated[1:])
    drifting = came[1:] & ((state[:-1] == CONNECTED) | (connecting < 0))
    drifting[:1] = False  # only an episode that begins in the first row sees the second, and knows more
    if drifting.any():
        found = ", ".join(
            f"{parameters.socket_names[k]} hour {1 + int(np.argmax(drifting[:, k]))}"
            for k in np.flatnonzero(drifting.any(axis=0))
        )
        raise UnsupportedSchemaError(
            parameters.schema,
            [
                "observation='raw' of vehicles that come directly after another one, or without a state of "
                f"charge: the one it shows drifts at random ({found})"
            ],
        )
    soc = np.where(vehicle >= 0, np.float32(np.nan), NO_SOC)
    soc[1:][came[1:]] = connecting[came[1:]]
    return soc


class RawWriter:
    """Writes observations into one array that is used again and again.

    Args:
        years: of the site.
        table: `raw_table` of all years, one after the other.
        environments: number of environments.

    Attributes:
        names: of the observations.
        observation: shape (environments, names), overwritten by each `write`. Nobody else may: what is shown
            after the end of the data is taken from it.

    Raises:
        UnsupportedSchemaError: as `raw_names`.
        ValueError: years that do not show the same.
    """

    def __init__(self, years: SiteYears, table: Float32, environments: int) -> None:
        parameters = years.parameters
        self.names = raw_names(parameters[0])
        for year in parameters[1:]:
            if raw_names(year) != self.names:
                raise ValueError(f"{year.schema}: other observations than {parameters[0].schema}")
        self._table = table
        self._vehicle, self._start_soc = years.tables.vehicle, years.tables.start_soc
        counts = [len(year.vehicles) for year in parameters]
        self._first_vehicle = np.cumsum([0, *counts])[:-1]
        initial = [v.initial_soc for year in parameters for v in year.vehicles.values()]
        self._initial_soc = np.array([*initial, 0.0], np.float32)
        self.observation = np.zeros((environments, len(self.names)), np.float32)
        columns = {name: self.observation[:, k] for k, name in enumerate(self.names)}
        live = LIVE if parameters[0].bess else {NET_KWH: LIVE[NET_KWH]}  # without a BESS 0, as in the table
        self._live = [(columns[name], quantity) for name, quantity in live.items() if name in columns]
        self._violation = columns.get(VIOLATION)
        self._headroom = [
            (columns[name], limit, sockets)
            for name, (limit, sockets) in _headroom(parameters[0]).items()
            if name in columns
        ]
        self._soc: Float32 | None = None
        shown = _socket_observations(parameters[0])
        if SOC in shown:
            sockets = len(years.socket_names)
            blocks = self.observation[:, len(self.names) - sockets * len(shown) :]
            self._soc = blocks.reshape(environments, sockets, len(shown), copy=False)[:, :, shown.index(SOC)]

    def write(
        self,
        rows: Index,
        year: Index,
        step: Index,
        stale: NDArray[np.bool_],
        hour: Hour | None,
        granted_kw: Float,
        violation_kw: Float,
    ) -> Float32:
        """Write the observations of the present hour: once or more after each reset and after each step.

        Args:
            rows: of the table, shape (environments,), like those that follow.
            year: number of the year.
            step: hours simulated since the reset; 0 after it.
            stale: environments whose data (or window) has just ended. CityLearn does not go to that hour, and
                shows the one before once more, but for what is left of the limits.
            hour: that has just been simulated; None if no environment has made a step.
            granted_kw: charging power in that hour after the limits, idle sockets included, shape
                (environments, sockets).
            violation_kw: by how much requests exceeded the limits in that hour.
        """
        observation, starting = self.observation, step == 0
        ended = np.flatnonzero(stale)
        shown_before = observation[ended]
        self._table.take(rows, axis=0, out=observation, mode="clip")
        if hour is not None:
            for column, quantity in self._live:
                np.copyto(column, getattr(hour, quantity), where=~starting)
        if self._soc is not None:
            self._write_soc(self._soc, rows, year, step, hour)
        if len(ended):
            observation[ended] = shown_before
            if hour is not None:
                self._show_first_hour(ended[step[ended] == 1], hour)
        for column, limit_kw, sockets in self._headroom:
            used_kw = granted_kw.take(sockets, axis=1).sum(axis=1)
            np.subtract(limit_kw, np.where(starting, 0.0, used_kw), out=column, casting="same_kind")
        if self._violation is not None:
            self._violation[:] = np.where(starting, 0.0, violation_kw)
        return observation

    def _write_soc(self, shown: Float32, rows: Index, year: Index, step: Index, hour: Hour | None) -> None:
        stays = np.isnan(shown)
        if hour is not None:
            np.copyto(shown, hour.sockets_soc, where=stays)
        second = np.flatnonzero(step == 1)
        if len(second):
            # In the first hour of an episode CityLearn has not yet given arrivals their state of charge.
            vehicle = self._vehicle[rows[second]]
            initial = self._initial_soc[vehicle + self._first_vehicle[year[second], None]]
            shown[second] = np.where((vehicle >= 0) & ~stays[second], initial, shown[second])
        first = np.flatnonzero(step == 0)
        if len(first):
            at = rows[first]
            shown[first] = np.where(self._vehicle[at] >= 0, self._start_soc[at], NO_SOC)

    def _show_first_hour(self, environments: Index, hour: Hour) -> None:
        """Update what was shown after a reset: in an episode's first hour CityLearn shows that very hour."""
        for column, quantity in self._live:
            column[environments] = getattr(hour, quantity)[environments]
        if self._soc is not None:
            soc = self._soc[environments]
            self._soc[environments] = np.where(soc >= 0, hour.sockets_soc[environments], soc)
