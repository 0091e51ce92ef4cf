"""CityLearn's tables of a year: their columns, how they are made, and how they are read back.

Conventions of CityLearn kept here: ``hour`` is 1-24 (the hour of day 0-23 plus 1), ``day_type`` 1-7 with
Monday 1, states of charge in percent, ``solar_generation`` in W per kWp. ``*_predicted_n`` is the true value
n hours later; the last rows of the year repeat the last value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from iquitos_rl.site.sessions import Sessions
from iquitos_rl.site.timeline import HOUR_OF_ROW, HOURS_PER_YEAR, MONTH_OF_ROW, WEEKDAY_OF_ROW
from iquitos_rl.site.year import SiteYear

__all__ = [
    "AWAY",
    "CHARGER_COLUMNS",
    "CONNECTED",
    "HORIZONS",
    "WEATHER_SERIES",
    "building_columns",
    "carbon_columns",
    "charger_columns",
    "later",
    "pricing_columns",
    "sessions_of_charger",
    "weather_columns",
]

CONNECTED, AWAY = 1, 3
"""States of a socket. CityLearn's 2, an announced arrival, is not used: nobody announces a motorcycle."""

HORIZONS = (1, 2, 3)
"""Hours ahead of the ``*_predicted_n`` columns."""

WEATHER_SERIES = (
    "outdoor_dry_bulb_temperature",
    "outdoor_relative_humidity",
    "diffuse_solar_irradiance",
    "direct_solar_irradiance",
)
CHARGER_COLUMNS = (
    "electric_vehicle_charger_state",
    "electric_vehicle_id",
    "electric_vehicle_departure_time",
    "electric_vehicle_required_soc_departure",
    "electric_vehicle_estimated_arrival_time",
    "electric_vehicle_estimated_soc_arrival",
    "electric_vehicle_session_id",
)

Columns = dict[str, Any]


def later(values: NDArray[np.float64], hours: int) -> NDArray[np.float64]:
    """The series ``hours`` later, of the same length; the last value is repeated at the end."""
    return values[np.minimum(np.arange(len(values)) + hours, len(values) - 1)]


def _with_predictions(series: Mapping[str, NDArray[np.float64]]) -> Columns:
    columns: Columns = dict(series)
    for name, values in series.items():
        columns |= {f"{name}_predicted_{hours}": later(values, hours) for hours in HORIZONS}
    return columns


def building_columns(year: SiteYear) -> Columns:
    """The table of the site itself, which is not heated or cooled: its indoor temperature is a constant."""
    nothing = np.zeros(HOURS_PER_YEAR)
    return {
        "month": MONTH_OF_ROW,
        "hour": HOUR_OF_ROW + 1,
        "day_type": WEEKDAY_OF_ROW + 1,
        "indoor_dry_bulb_temperature": np.full(HOURS_PER_YEAR, 25.0),
        "non_shiftable_load": year.load_kwh,
        "dhw_demand": nothing,
        "cooling_demand": nothing,
        "heating_demand": nothing,
        "solar_generation": year.sun.pv_w_per_kw,
    }


def weather_columns(year: SiteYear) -> Columns:
    """Weather and its true values 1, 2 and 3 hours later."""
    sun = year.sun
    values = (
        sun.temperature_c,
        sun.humidity_percent,
        sun.diffuse_irradiance_w_per_m2,
        sun.direct_irradiance_w_per_m2,
    )
    return _with_predictions(dict(zip(WEATHER_SERIES, values, strict=True)))


def pricing_columns(year: SiteYear) -> Columns:
    """Price of import, USD/kWh, and its true values 1, 2 and 3 hours later."""
    return _with_predictions({"electricity_pricing": year.price_usd_per_kwh})


def carbon_columns(year: SiteYear) -> Columns:
    """Carbon intensity of the grid, kg CO2/kWh."""
    return {"carbon_intensity": year.carbon_intensity_kg_per_kwh}


def charger_columns(year: SiteYear) -> Iterator[tuple[str, Columns]]:
    """Name and table of each socket, in order.

    A connected row holds the vehicle, its session, the hours until departure (the dwell on arrival, 1 in the
    last connected row) and the required SOC. The SOC on arrival stands in the row of the arrival and, if the
    socket was free, in the row before: CityLearn reads it from there, but from the arrival's own row if it
    follows another session without a gap or is the first row of an episode.
    """
    sessions = year.sessions
    bounds = np.searchsorted(sessions.socket, np.arange(len(year.sockets) + 1))
    for index, socket in enumerate(year.sockets):
        mine = slice(bounds[index], bounds[index + 1])
        start, dwell = sessions.start[mine], sessions.dwell[mine]
        # `number` is the socket's session of each connected hour, `elapsed` the hours since its arrival.
        number = np.repeat(np.arange(len(start)), dwell)
        elapsed = np.arange(len(number)) - (np.cumsum(dwell) - dwell)[number]
        row = start[number] + elapsed

        state = np.full(HOURS_PER_YEAR, AWAY)
        state[row] = CONNECTED
        departure = np.full(HOURS_PER_YEAR, np.nan)
        departure[row] = dwell[number] - elapsed
        required = np.full(HOURS_PER_YEAR, np.nan)
        required[row] = (sessions.required_soc[mine][number] * 100.0).round(4)
        arrival = np.full(HOURS_PER_YEAR, np.nan)
        percent = (sessions.arrival_soc[mine] * 100.0).round(4)
        announced = (start > 0) & (state[start - 1] == AWAY)
        arrival[start[announced] - 1] = percent[announced]
        arrival[start] = percent
        session_id = np.zeros(HOURS_PER_YEAR, dtype=np.int32)
        session_id[row] = number + 1

        names = [f"{socket.name}-{k:05d}" for k in range(1, len(start) + 1)]
        yield (
            socket.name,
            {
                "electric_vehicle_charger_state": state,
                "electric_vehicle_id": _text(["", socket.vehicle], (state == CONNECTED).astype(np.int32)),
                "electric_vehicle_departure_time": departure,
                "electric_vehicle_required_soc_departure": required,
                "electric_vehicle_estimated_arrival_time": np.full(HOURS_PER_YEAR, np.nan),
                "electric_vehicle_estimated_soc_arrival": arrival,
                "electric_vehicle_session_id": _text(["", *names], session_id),
            },
        )


def _text(values: list[str], indices: NDArray[np.int32]) -> pa.Array:
    """A column of text from a few values and their indices: much faster than a list of 8,760 strings."""
    return pa.DictionaryArray.from_arrays(indices, values).cast(pa.string())


def sessions_of_charger(table: pd.DataFrame, socket: int) -> Sessions:
    """The sessions in a socket's table, read the way CityLearn reads them.

    A session begins where a connected row follows a free one or carries another session id (without ids:
    where the countdown, having reached 1, rises again).
    """
    connected = table["electric_vehicle_charger_state"].to_numpy() == CONNECTED
    countdown = table["electric_vehicle_departure_time"].to_numpy(dtype=np.float64)
    arrival = _as_fraction(table["electric_vehicle_estimated_soc_arrival"])
    required = _as_fraction(table["electric_vehicle_required_soc_departure"])

    changes = np.ones(len(table), dtype=bool)
    if "electric_vehicle_session_id" in table.columns:
        ids = table["electric_vehicle_session_id"]
        changes[1:] = (ids != ids.shift()).to_numpy(dtype=bool)[1:]
    else:
        changes[1:] = (countdown[:-1] <= 1) & (countdown[1:] > countdown[:-1])
    free_before = np.concatenate([[True], ~connected[:-1]])
    free_after = np.concatenate([~connected[1:], [True]])
    start = np.flatnonzero(connected & (changes | free_before))
    last = np.flatnonzero(connected & (free_after | np.concatenate([changes[1:], [True]])))
    read_from = np.where(free_before[start] & (start > 0), start - 1, start)
    return Sessions(
        socket=np.full(len(start), socket, dtype=np.int64),
        start=start.astype(np.int64),
        dwell=(last - start + 1).astype(np.int64),
        arrival_soc=arrival[read_from],
        required_soc=required[last],
    )


def _as_fraction(percent: pd.Series) -> NDArray[np.float64]:
    """SOC 0-1 of a column in percent; as in CityLearn, values up to 1 are fractions already."""
    values = percent.to_numpy(dtype=np.float64)
    return np.where(values > 1.0, values / 100.0, values)
