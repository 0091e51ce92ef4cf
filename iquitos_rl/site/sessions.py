"""Charging sessions: when vehicles come to each socket, how long they stay and what they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.site import SessionConfig, SiteConfig
from iquitos_rl.site.timeline import DAYS_PER_YEAR, HOURS_PER_DAY

__all__ = ["Sessions", "Socket", "make_sessions", "make_sockets"]

_CAPACITY_DECIMALS = 4
_SOC_DECIMALS = 6
_LEAST_ARRIVAL_SOC = 0.0101
"""CityLearn takes a table's SOC of 1 (percent) or less for a fraction: 0.8 % would become 80 %."""


@dataclass(frozen=True)
class Socket:
    """One socket and the one vehicle that uses it.

    Attributes:
        name: of the charger, e.g. ``moto_001``; the vehicle is ``ev_moto_001``.
        power_kw: rated charging power at the grid side.
        discharge_power_kw: rated power back to the site; 0 unless the socket is vehicle-to-grid.
        efficiency: of the charger, applied each way.
        battery_capacity_kwh: of the vehicle.
        battery_power_kw: most that the vehicle's battery takes or gives.
    """

    name: str
    power_kw: float
    discharge_power_kw: float
    efficiency: float
    battery_capacity_kwh: float
    battery_power_kw: float

    @property
    def vehicle(self) -> str:
        """Name of the socket's vehicle."""
        return f"ev_{self.name}"


@dataclass(frozen=True)
class Sessions:
    """Sessions of one year, ordered by socket and then by time; every array has shape (sessions,).

    Attributes:
        socket: index of the socket.
        start: first connected row.
        dwell: number of connected rows; the vehicle has left in row ``start + dwell``.
        arrival_soc: state of charge on arrival, 0-1.
        required_soc: state of charge wanted at departure, 0-1; NaN or 0 if nothing is asked.
    """

    socket: NDArray[np.int64]
    start: NDArray[np.int64]
    dwell: NDArray[np.int64]
    arrival_soc: NDArray[np.float64]
    required_soc: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.socket)

    @property
    def end(self) -> NDArray[np.int64]:
        """First row after each session."""
        return self.start + self.dwell

    @classmethod
    def join(cls, parts: Sequence[Sessions]) -> Sessions:
        """The sessions of several sockets or days, in the order of the class."""
        joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        order = np.lexsort((joined["start"], joined["socket"]))
        return cls(**{name: values[order] for name, values in joined.items()})


def make_sockets(site: SiteConfig, rng: np.random.Generator) -> tuple[Socket, ...]:
    """The site's sockets, class by class, each with a vehicle whose battery capacity is drawn uniformly."""
    sockets = []
    for kind in site.sockets:
        low, high = kind.battery_capacity_kwh
        capacities = rng.uniform(low, high, size=kind.count).round(_CAPACITY_DECIMALS)
        strongest = max(kind.power_kw, kind.discharge_power_kw)
        sockets += [
            Socket(
                name=f"{kind.name}_{number:03d}",
                power_kw=kind.power_kw,
                discharge_power_kw=kind.discharge_power_kw,
                efficiency=kind.charger_efficiency,
                battery_capacity_kwh=float(capacity),
                battery_power_kw=kind.battery_power_factor * strongest,
            )
            for number, capacity in enumerate(capacities, start=1)
        ]
    return tuple(sockets)


def _arrival_probability(config: SessionConfig, hour: int) -> NDArray[np.float64]:
    """Chance of an arrival at a free socket in an hour of each day, shape (365, 1)."""
    chance = next((a.probability for a in config.arrivals if a.hours[0] <= hour < a.hours[1]), 0.0)
    factors = np.array(config.weekday_factor)[np.arange(DAYS_PER_YEAR) % 7]
    return np.minimum(1.0, chance * factors)[:, np.newaxis]


def make_sessions(site: SiteConfig, socket_count: int, rng: np.random.Generator) -> Sessions:
    """Draw one year of sessions.

    In each opening hour a vehicle comes to a free socket with the hour's probability. It stays one hour with
    a probability that is higher in the busy hours, else one of the longer stays, cut at closing time. A
    socket whose session ends at an hour is free in that very hour, so sessions may follow without a gap.

    Nobody stays the night, so days are independent and are drawn together: the loop runs over the hours of a
    day, on arrays of shape (365, sockets).
    """
    config = site.sessions
    opening, closing = site.opening_hours
    shape = (DAYS_PER_YEAR, socket_count)
    stays = np.array(config.dwell.long_stay_hours)
    free_from = np.zeros(shape, dtype=np.int64)
    parts = []
    for hour in range(opening, closing):
        # Every hour draws the same number of values, whoever arrives: changing one hour leaves the others.
        arrives = (rng.random(shape) < _arrival_probability(config, hour)) & (free_from <= hour)
        short_draw = rng.random(shape)
        long_stay = stays[rng.integers(len(stays), size=shape)]
        soc = rng.uniform(*config.arrival_soc, size=shape)

        busy = config.dwell.busy_hours[0] <= hour < config.dwell.busy_hours[1]
        short = config.dwell.busy_one_hour_probability if busy else config.dwell.one_hour_probability
        dwell = np.minimum(np.where(short_draw < short, 1, long_stay), closing - hour)

        day, socket = np.nonzero(arrives)
        free_from[day, socket] = hour + dwell[day, socket]
        parts.append(
            Sessions(
                socket=socket.astype(np.int64),
                start=(day * HOURS_PER_DAY + hour).astype(np.int64),
                dwell=dwell[day, socket].astype(np.int64),
                arrival_soc=_storable_soc(soc[day, socket]),
                required_soc=_storable_soc(np.full(len(day), config.required_soc)),
            )
        )
    return Sessions.join(parts)


def _storable_soc(soc: NDArray[np.float64]) -> NDArray[np.float64]:
    """SOC as a table can hold it: rounded, and not so small that CityLearn would misread it."""
    rounded = soc.round(_SOC_DECIMALS)
    return np.where((rounded > 0) & (rounded < _LEAST_ARRIVAL_SOC), _LEAST_ARRIVAL_SOC, rounded)
