"""A year's tables as the batch engine needs them: one row per hour, one column per socket.

All rules of CityLearn about who is connected, and with what state of charge a vehicle arrives, are applied
here once, so that a step only looks up rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from citylearn.data import ChargerSimulation
from numpy.typing import NDArray

from iquitos_rl.env.batch.schema import ChargerParameters, SiteParameters, UnsupportedSchemaError
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.storage import read_table

__all__ = ["ChargerTables", "SiteTables", "read_charger_tables", "read_site_tables"]

Float32 = NDArray[np.float32]

CONNECTED = 1.0
INCOMING, AWAY = 2.0, 3.0
NO_TIME = -1
NO_SOC = np.float32(-0.1)
"""CityLearn's values for "there is none"."""
HEAT_DEMANDS = ("cooling_demand", "heating_demand", "dhw_demand")
NO_IDS = ("", "nan")


@dataclass(frozen=True)
class SiteTables:
    """Hourly series of the site, each of shape (rows,).

    Attributes:
        hour: of the day, 0-23.
        day_type: 0 Monday to 6 Sunday.
        pv_kwh: PV generation.
        load_kwh: non-shiftable load.
        price: USD/kWh.
        carbon_intensity: kg CO2/kWh.
    """

    hour: NDArray[np.int32]
    day_type: NDArray[np.int32]
    pv_kwh: Float32
    load_kwh: Float32
    price: Float32
    carbon_intensity: Float32


def read_site_tables(parameters: SiteParameters) -> SiteTables:
    """Read the site's own series, in single precision as CityLearn keeps them.

    Raises:
        DatasetError: a table is missing or unreadable.
        UnsupportedSchemaError: the site has heat demand, or is not hourly.
    """
    site = _Table(parameters, parameters.site_table)
    hour = site.column("hour", np.int32)
    missing = [f"{name} that is not zero" for name in HEAT_DEMANDS if np.any(site.column(name) != 0)]
    if len(hour) > 1 and (hour[1] - hour[0]) % 24 != 1:
        missing.append(f"rows that are not an hour apart ({parameters.site_table})")
    if "minutes" in site.frame and np.any(site.column("minutes") != 0):
        missing.append("rows that do not start at the full hour")
    if missing:
        raise UnsupportedSchemaError(parameters.schema, missing)
    irradiation = site.column("solar_generation")
    # In the order of CityLearn's operations, which are in single precision.
    pv = irradiation if parameters.pv_is_energy else parameters.pv_kwp * irradiation / np.float32(1000.0)

    def series(name: str, file: Path | None) -> Float32:
        if file is None:
            return np.zeros(len(hour), np.float32)
        return _Table(parameters, file).column(name)

    return SiteTables(
        hour=hour - 1,  # CityLearn counts 1-24
        day_type=site.column("day_type", np.int32) - 1,
        pv_kwh=np.abs(pv).astype(np.float32),
        load_kwh=site.column("non_shiftable_load"),
        price=series("electricity_pricing", parameters.pricing_table),
        carbon_intensity=series("carbon_intensity", parameters.carbon_table),
    )


class _Table:
    """The rows of a file that are simulated.

    Raises:
        DatasetError: the file is missing or unreadable, or too short.
    """

    def __init__(self, parameters: SiteParameters, file: Path) -> None:
        self._file = file
        table = read_table(file)
        first, rows = parameters.first_row, parameters.rows
        if len(table) < first + rows:
            raise DatasetError(
                f"{file}: {len(table)} rows, but {parameters.schema} simulates rows {first} to "
                f"{first + rows - 1} (simulation_end_time_step)"
            )
        self.frame = table.iloc[first : first + rows]

    def text(self, name: str) -> pd.Series:
        """A column as it is. Raises DatasetError if it is not there."""
        if name not in self.frame:
            raise DatasetError(f"{self._file}: column {name} is missing")
        return self.frame[name]

    def column(self, name: str, dtype: type = np.float32, *, missing: bool = False) -> NDArray[Any]:
        """A column of numbers, which may be ``missing``. Raises DatasetError for anything else."""
        values = self.text(name)
        if not missing and values.hasnans:
            row = int(np.flatnonzero(values.isna())[0])
            raise DatasetError(f"{self._file}: column {name} has no value in row {row}")
        try:
            return values.to_numpy(dtype=dtype, na_value=np.nan) if missing else values.to_numpy(dtype=dtype)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{self._file}: column {name}: not numbers ({error})") from None


@dataclass(frozen=True)
class ChargerTables:
    """What the sockets' tables say, each of shape (rows, sockets).

    Attributes:
        state: CityLearn's charger state: 1 connected, 2 incoming, 3 away; NaN where it is none of a number.
        vehicle: number of the connected vehicle in the order of the schema; -1 without one.
        named: number of the vehicle that the row names, connected or not; -1 for none of the schema's.
        hours_left: connected hours left, this one included; -1 for none.
        required_soc: at departure; -0.1 for none.
        estimated_soc: on arrival, as the row itself gives it; -0.1 for none.
        arrival_hours: hours until an announced arrival; -1 for none.
        start_soc: state of charge with which an episode that begins in this row begins; 0 without a vehicle.
        new_soc: state of charge that a vehicle gets in this row because it arrives; 0 without a vehicle, NaN
            for one that has been here the hour before.
    """

    state: Float32
    vehicle: NDArray[np.int16]
    named: NDArray[np.int16]
    hours_left: NDArray[np.int32]
    required_soc: Float32
    estimated_soc: Float32
    arrival_hours: NDArray[np.int32]
    start_soc: Float32
    new_soc: Float32


def read_charger_tables(parameters: SiteParameters) -> ChargerTables:
    """Read the sockets' tables and find out what CityLearn would make of them.

    Raises:
        DatasetError: a table is missing or unreadable.
        ValueError: a table that CityLearn refuses too.
        UnsupportedSchemaError: sessions that the engine does not model.
    """
    numbers = {name: number for number, name in enumerate(parameters.vehicles)}
    initial = np.array([v.initial_soc for v in parameters.vehicles.values()] + [0.0], np.float32)
    columns: dict[str, list[NDArray[np.generic]]] = {}
    for charger in parameters.chargers:
        for name, values in _read_charger(parameters, charger, numbers, initial).items():
            columns.setdefault(name, []).append(values)
    tables = ChargerTables(**{name: np.stack(values, axis=1) for name, values in columns.items()})
    missing = _unmodelled_sessions(parameters, tables)
    if missing:
        raise UnsupportedSchemaError(parameters.schema, missing)
    return tables


def _read_charger(
    parameters: SiteParameters, charger: ChargerParameters, numbers: Mapping[str, int], initial: Float32
) -> dict[str, NDArray[np.generic]]:
    source = _Table(parameters, charger.table)
    table = source.frame

    def hours(name: str) -> NDArray[np.int32]:
        values = source.column(name, missing=True)
        return np.where(np.isnan(values), NO_TIME, values).astype(np.int32)

    def soc(name: str) -> Float32:
        values = source.column(name, missing=True)
        normalized = ChargerSimulation.normalize_soc_series(values, float(NO_SOC), 0.0)
        return np.asarray(normalized, np.float32)

    state = _mapped(source.text("electric_vehicle_charger_state"), _charger_state).astype(np.float32)
    ids = source.text("electric_vehicle_id")
    named = _mapped(ids, lambda name: numbers.get(name, -1)).astype(np.int16)
    vehicle = np.where(state == CONNECTED, named, np.int16(-1))
    hours_left = hours("electric_vehicle_departure_time")
    estimated = soc("electric_vehicle_estimated_soc_arrival")
    own = estimated
    if "electric_vehicle_current_soc" in table:
        current = soc("electric_vehicle_current_soc")
        own = np.where(current >= 0, current, own)
    sessions = table.get("electric_vehicle_session_id")

    # Whether the vehicle of a row has just come: another than in the row before, or another session.
    new = np.ones(len(vehicle), bool)
    new[1:] = (vehicle[1:] != vehicle[:-1]) | _session_changes(sessions, hours_left)
    new &= vehicle >= 0
    # A free socket announces the arrival's state of charge in the row before.
    announced = np.isin(state[:-1], (INCOMING, AWAY)) & new[1:]
    arrival = own.copy()
    before = estimated[:-1]
    if "electric_vehicle_current_soc" in table:
        announced &= ~(current[1:] >= 0)
    arrival[1:][announced] = before[announced]
    _check_names(charger, ids.to_numpy(), announced)
    if np.any(new[1:] & (arrival[1:] < 0)):
        hour = 1 + int(np.flatnonzero(new[1:] & (arrival[1:] < 0))[0])
        raise UnsupportedSchemaError(
            parameters.schema,
            [f"arrivals without a state of charge ({charger.name}, hour {hour}): it drifts at random"],
        )
    present = vehicle >= 0
    start = np.where(own >= 0, own, initial[vehicle])
    return {
        "state": state,
        "vehicle": vehicle,
        "named": named,
        "hours_left": hours_left,
        "required_soc": soc("electric_vehicle_required_soc_departure"),
        "estimated_soc": estimated,
        "arrival_hours": hours("electric_vehicle_estimated_arrival_time"),
        "start_soc": np.where(present, start, np.float32(0)).astype(np.float32),
        "new_soc": np.where(new, arrival, np.where(present, np.float32(np.nan), 0)).astype(np.float32),
    }


def _mapped(column: pd.Series, function: object) -> NDArray[np.generic]:
    """A function of a column with few different values, called once for each of them."""
    codes, values = pd.factorize(column, use_na_sentinel=False)
    assert callable(function)
    return np.array([function(value) for value in values])[codes]


def _charger_state(value: object) -> float:
    """As CityLearn reads it: a floating-point column is no state at all."""
    return float(str(value)) if str(value).isdigit() else float("nan")


def _session_changes(sessions: pd.Series | None, hours_left: NDArray[np.int32]) -> NDArray[np.bool_]:
    """For each row but the first, whether its session is another than in the row before, of one vehicle."""
    countdown_restarts = (hours_left[:-1] <= 1) & (hours_left[1:] > hours_left[:-1])
    if sessions is None:
        return countdown_restarts
    names = sessions.to_numpy(dtype=object)
    known = np.asarray(_mapped(sessions, lambda s: isinstance(s, str) and s.strip() not in NO_IDS), bool)
    differs = np.asarray(names[1:] != names[:-1], bool)
    return np.where(known[1:], known[:-1] & differs, countdown_restarts)


def _check_names(charger: ChargerParameters, ids: NDArray[np.object_], announced: NDArray[np.bool_]) -> None:
    """CityLearn refuses an announcement that names another vehicle than the one that comes."""
    for row in np.flatnonzero(announced):
        before = ids[row]
        if isinstance(before, str) and before.strip() not in NO_IDS and before != ids[row + 1]:
            raise ValueError(
                f"{charger.table}: row {row} announces {before}, but {ids[row + 1]} comes in row {row + 1}"
            )


def _unmodelled_sessions(parameters: SiteParameters, tables: ChargerTables) -> list[str]:
    """What vehicles do that makes the state of one socket depend on another's."""
    names = list(parameters.vehicles)
    homes: dict[int, set[int]] = {}
    for socket, vehicles in enumerate(tables.vehicle.T):
        for number in np.unique(vehicles[vehicles >= 0]).tolist():
            homes.setdefault(number, set()).add(socket)
    found = []
    for number, sockets in homes.items():
        if parameters.vehicles[names[number]].capacity_loss > 0 and (
            len(sockets) > 1 or any(_is_shared(tables.vehicle[:, socket]) for socket in sockets)
        ):
            found.append(f"vehicle {names[number]}: capacity loss of a vehicle that shares sockets")
        if len(sockets) < 2:
            continue
        here = tables.vehicle[:, sorted(sockets)] == number
        hours = here.sum(axis=1)
        moves = here[:-1].any(axis=1) & (here[1:] & ~here[:-1]).any(axis=1)
        if hours.max() > 1:
            found.append(f"vehicle {names[number]} at two sockets at once")
        elif moves.any():
            found.append(f"vehicle {names[number]} moving between sockets without an hour between")
    return found


def _is_shared(vehicle: NDArray[np.int16]) -> bool:
    return len(np.unique(vehicle[vehicle >= 0])) > 1
