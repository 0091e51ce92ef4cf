"""Who is at which socket and when, and the charger tables that say so to CityLearn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tests.parity.variants import Choices

CONNECTED, INCOMING, AWAY = 1, 2, 3
ROAMER = "ev_roamer"


@dataclass(frozen=True)
class Session:
    """One stay of a vehicle. ``soc_before`` stands in the row before the arrival, ``soc_own`` in its own."""

    vehicle: str
    start: int
    dwell: int
    soc_before: float
    soc_own: float
    required: float


@dataclass(frozen=True)
class Timetable:
    """The sessions of each socket in order, and all vehicles, those that never come included."""

    sessions: tuple[tuple[Session, ...], ...]
    vehicles: tuple[str, ...]


def draw_timetable(choices: Choices, rows: int, random: np.random.Generator) -> Timetable:
    """Sessions for all rows; the last of a socket may go on after the data's end.

    No vehicle is at two sockets at once, or at another one less than an hour later: CityLearn's tables can
    say so, but the batch engine does not model it.
    """
    homes = [
        [f"ev_{socket}_{k}" for k in range(int(random.integers(2, 4)) if choices.sharing else 1)]
        for socket in range(choices.sockets)
    ]
    candidates = [home + [ROAMER] * choices.roaming for home in homes]
    vehicles = [name for home in homes for name in home] + [ROAMER] * choices.roaming + ["ev_never_here"]
    dwells = [15, 30, 60] if choices.long_stays else [1, 1, 2, 3, 5, 9]
    roaming_at = np.full(rows + 80, -1)
    sessions: list[list[Session]] = [[] for _ in range(choices.sockets)]
    cursors = [int(random.integers(0, 4)) for _ in range(choices.sockets)]
    while min(cursors) < rows:
        socket = int(np.argmin(cursors))
        start, dwell = cursors[socket], int(random.choice(dwells))
        previous = sessions[socket][-1] if sessions[socket] else None
        vehicle = str(random.choice(candidates[socket]))
        if vehicle == ROAMER:
            around = roaming_at[max(0, start - 2) : start + dwell + 2]
            if np.any((around >= 0) & (around != socket)):
                vehicle = homes[socket][0]
        if previous is not None and previous.vehicle != vehicle and start == previous.start + previous.dwell:
            # Not in the data's last row either: there even `features` would show the newcomer's drift.
            start += not choices.swaps or start == choices.first_row + choices.hours - 1
        if vehicle == ROAMER:
            roaming_at[start : start + dwell] = socket
        sessions[socket].append(_session(choices, vehicle, start, dwell, random))
        gap = {"none": 0, "some": int(random.choice([0, 1, 1, 2, 6])), "long": int(random.integers(4, 15))}
        cursors[socket] = start + dwell + gap[choices.gaps]
    return Timetable(tuple(tuple(s) for s in sessions), tuple(vehicles))


def _session(choices: Choices, vehicle: str, start: int, dwell: int, random: np.random.Generator) -> Session:
    before, own = random.uniform(0.1, 0.7, 2)
    required = random.uniform(0.5, 1.0)
    if choices.extremes:
        kind = random.integers(0, 6)
        if kind == 0:
            before = own = 1.0
        elif kind == 1:
            before = own = 0.0
        elif kind == 2:
            before = own = 0.02
        required = [required, required, 0.0, np.nan, 1.0, 0.3][random.integers(0, 6)]
    elif random.random() < 0.7:
        own = before  # what a sound table says
    return Session(vehicle, start, dwell, float(before), float(own), float(required))


def socket_table(
    choices: Choices, timetable: Timetable, socket: int, rows: int, random: np.random.Generator
) -> dict[str, Any]:
    """The charger table of one socket."""
    state = np.full(rows, AWAY)
    vehicle = np.full(rows, "", object)
    session_id = np.full(rows, "", object)
    nan = np.full(rows, np.nan)
    departure, required, arrival_time, arrival_soc = nan.copy(), nan.copy(), nan.copy(), nan.copy()
    current = nan.copy()
    free_from = 0
    for number, session in enumerate(timetable.sessions[socket]):
        start, end = session.start, min(session.start + session.dwell, rows)
        if start >= rows:
            break
        here = slice(start, end)
        state[here] = CONNECTED
        vehicle[here] = session.vehicle
        session_id[here] = {"each": f"s{socket}-{number}", "same": "s"}.get(choices.session_ids, "")
        countdown = session.dwell - np.arange(session.dwell) - 1 + choices.countdown_last
        departure[here] = countdown[: end - start]
        required[here] = session.required
        if choices.extremes and random.random() < 0.2:
            required[here] = random.uniform(0.2, 1.0, end - start)
        arrival_soc[start] = session.soc_own
        if start > free_from:
            _announce(choices, session, max(free_from, start - max(choices.announce, 1)), state, vehicle)
            arrival_soc[max(free_from, start - max(choices.announce, 1)) : start] = session.soc_before
            for row in range(max(free_from, start - choices.announce), start):
                arrival_time[row] = start - row
        if choices.current_soc:
            # Used in the row of an arrival, or where a window begins; to be overlooked in all others.
            current[here] = np.where(
                random.random(end - start) < 0.6, random.uniform(0, 1, end - start), np.nan
            )
        free_from = end
    scale = 1.0 if choices.fractions else 100.0
    table: dict[str, Any] = {
        "electric_vehicle_charger_state": state,
        "electric_vehicle_id": vehicle,
        "electric_vehicle_departure_time": departure,
        "electric_vehicle_required_soc_departure": _scaled(required, scale),
        "electric_vehicle_estimated_arrival_time": arrival_time,
        "electric_vehicle_estimated_soc_arrival": _scaled(arrival_soc, scale),
    }
    if choices.session_ids != "none":
        table["electric_vehicle_session_id"] = session_id
    if choices.current_soc:
        table["electric_vehicle_current_soc"] = _scaled(current, scale)
    return table


def _announce(
    choices: Choices, session: Session, first: int, state: NDArray[Any], vehicle: NDArray[Any]
) -> None:
    """The rows before an arrival: incoming and named, or away and perhaps named."""
    rows = slice(first, session.start)
    if choices.announce:
        state[rows] = INCOMING
    if choices.announce or choices.named:
        vehicle[rows] = session.vehicle


def _scaled(values: NDArray[Any], scale: float) -> NDArray[Any]:
    """In percent, what CityLearn would take for a fraction stays one: 0.8 % would be read as 80 %."""
    return np.where(values * scale > 1.0, (values * scale).round(4), values)
