"""What must hold within a socket's table, and between the tables of several sockets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iquitos_rl.site.table_schemas import ColumnProblem
from iquitos_rl.site.tables import CONNECTED

__all__ = ["charger_problems", "shared_vehicle_problems"]

_STATE = "electric_vehicle_charger_state"
_VEHICLE = "electric_vehicle_id"
_COUNTDOWN = "electric_vehicle_departure_time"
_REQUIRED = "electric_vehicle_required_soc_departure"
_ARRIVAL = "electric_vehicle_estimated_soc_arrival"
_SESSION = "electric_vehicle_session_id"


def charger_problems(table: pd.DataFrame) -> list[ColumnProblem]:
    """Faults of a socket's sessions; the table has already passed its pandera schema."""
    return [
        (column, [int(row) for row in np.flatnonzero(wrong)], message)
        for column, wrong, message in _faults(table)
        if wrong.any()
    ]


def _faults(table: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_], str]]:
    connected = table[_STATE].to_numpy() == CONNECTED
    vehicle = table[_VEHICLE].to_numpy(dtype=object)
    session = table[_SESSION].to_numpy(dtype=object)
    countdown = table[_COUNTDOWN].to_numpy(dtype=np.float64)
    arrival = table[_ARRIVAL].to_numpy(dtype=np.float64)
    has_vehicle, has_session = vehicle != "", session != ""
    named = connected & has_session

    yield _VEHICLE, connected & ~has_vehicle, "a vehicle is connected but not named"
    yield _SESSION, connected & ~has_session, "a vehicle is connected but its session has no id"
    yield _VEHICLE, ~connected & has_vehicle, "the socket is free but names a vehicle"
    yield _SESSION, ~connected & has_session, "the socket is free but names a session"
    yield _COUNTDOWN, connected & np.isnan(countdown), "a vehicle is connected but its departure is missing"
    yield _COUNTDOWN, ~connected & ~np.isnan(countdown), "the socket is free but has a departure"
    yield _REQUIRED, connected & table[_REQUIRED].isna().to_numpy(), "a vehicle is connected but needs no SOC"
    for column in (_REQUIRED, _ARRIVAL):
        percent = table[column].to_numpy(dtype=np.float64)
        yield column, (percent > 0) & (percent <= 1), "CityLearn takes percent of 1 or less for a fraction"

    goes_on = np.zeros(len(table), dtype=bool)  # the row continues the session of the row before
    goes_on[1:] = named[1:] & named[:-1] & (session[1:] == session[:-1])
    arrives = named & ~goes_on
    yield _ARRIVAL, arrives & np.isnan(arrival), "a vehicle arrives but its SOC is missing"
    unannounced = np.zeros(len(table), dtype=bool)
    unannounced[:-1] = arrives[1:] & ~connected[:-1] & (arrival[:-1] != arrival[1:])
    yield _ARRIVAL, unannounced, "CityLearn reads here the SOC of the arrival in the next row, which differs"

    steps = np.zeros(len(table), dtype=bool)
    change = np.diff(countdown)
    steps[1:] = goes_on[1:] & (change != -1) & ~np.isnan(change)
    yield _COUNTDOWN, steps, "does not count down by 1 within the session"
    last = named.copy()
    last[:-1] &= ~goes_on[1:]
    last[-1] = False  # the data end there, so the session may go on
    yield _COUNTDOWN, last & (countdown != 1), "the session ends here, so this must be 1"

    swapped = np.zeros(len(table), dtype=bool)
    swapped[1:] = goes_on[1:] & (vehicle[1:] != vehicle[:-1])
    yield _VEHICLE, swapped, "another vehicle within the same session"
    names = vehicle[connected & has_vehicle]
    if len(names):
        others = connected & has_vehicle & (vehicle != names[0])
        yield _VEHICLE, others & ~swapped, f"another vehicle than {names[0]} on this socket"
    starts = np.flatnonzero(arrives)
    again = np.zeros(len(table), dtype=bool)
    again[starts] = pd.Series(session[starts]).duplicated().to_numpy()
    yield _SESSION, again, "the id was used by an earlier session"


def shared_vehicle_problems(chargers: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, ColumnProblem]]:
    """Vehicles that are on two sockets at once; ``chargers`` are the tables by file."""
    places: dict[str, tuple[str, NDArray[np.bool_]]] = {}
    for file, table in chargers.items():
        for vehicle in (name for name in table[_VEHICLE].unique() if name):
            here = (table[_VEHICLE] == vehicle).to_numpy()
            if vehicle not in places:
                places[vehicle] = (file, here)
                continue
            other, there = places[vehicle]
            rows = [int(row) for row in np.flatnonzero(here & there)]
            if rows:
                yield file, (_VEHICLE, rows, f"{vehicle} is connected at {other} too")
