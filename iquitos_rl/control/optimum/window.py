"""A stretch of hours at a charging site, as the linear programme sees it.

Vehicles become sessions: when they are there, how much energy they still want and how much they can take. The
arithmetic of batteries and sockets is that of the batch engine (docs/engine.md); what the programme could not
repeat exactly is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.batch.schema import BatteryParameters, ChargerParameters, Curve, SiteParameters
from iquitos_rl.env.batch.years import SiteYears

__all__ = ["BessLimits", "Phase", "Sessions", "SiteWindow", "socket_limits", "window_of"]

FloatArray = NDArray[np.float64]
Index = NDArray[np.intp]

FLUID = -1
"""The socket of a session that is only expected: a fraction of a vehicle, or several."""


@dataclass(frozen=True)
class BessLimits:
    """The site's battery: energies in kWh, powers in kW at the grid side.

    Attributes:
        capacity_kwh, floor_kwh: the most and the least that it holds.
        start_kwh: what it holds at the start of the window.
        power_kw: most that goes in or out.
        nominal_kw: what an action of 1 asks for; not below ``power_kw``.
        root: one-way efficiency, the square root of that of a round trip.
    """

    capacity_kwh: float
    floor_kwh: float
    start_kwh: float
    power_kw: float
    nominal_kw: float
    root: float


@dataclass(frozen=True)
class Phase:
    """The most (kW) that some of the sockets may draw together; ``sockets`` are their numbers."""

    limit_kw: float
    sockets: Index


@dataclass(frozen=True)
class Sessions:
    """Vehicles at sockets, one array entry each.

    Attributes:
        socket: number of the socket, or `FLUID`.
        first, last: hours of the window in which it is there, both included.
        power_kw: most that it draws from the site.
        efficiency: share of the draw that ends in its battery.
        need_kwh: energy into the battery up to the required SOC; 0 if nobody counts how it leaves.
        room_kwh: energy into the battery up to SOC 1.
        required_kwh: energy in the battery at the required SOC: a kWh that lacks there costs 1 / required_kwh
            of a departure's satisfaction; 0 if none is required.
        departures: 1 if it leaves within the window and so counts, else 0; the expected number if fluid.
    """

    socket: Index
    first: Index
    last: Index
    power_kw: FloatArray
    efficiency: FloatArray
    need_kwh: FloatArray
    room_kwh: FloatArray
    required_kwh: FloatArray
    departures: FloatArray

    def __len__(self) -> int:
        return len(self.socket)

    def take(self, which: NDArray[Any]) -> Sessions:
        """Some of the sessions, by index or mask."""
        return Sessions(*(getattr(self, f.name)[which] for f in fields(self)))

    @staticmethod
    def join(parts: Sequence[Sessions]) -> Sessions:
        """Sessions one after the other."""
        return Sessions(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Sessions)))

    @property
    def shortfall_per_kwh(self) -> FloatArray:
        """Satisfaction (of one departure) lost with each kWh that lacks."""
        required = self.required_kwh
        return np.divide(1.0, required, out=np.zeros_like(required), where=required > 0)


@dataclass(frozen=True)
class SiteWindow:
    """Hours 0 .. T-1 of a site.

    Attributes:
        load_kwh, pv_kwh, price_usd_per_kwh, carbon_kg_per_kwh: of each hour, shape (T,).
        day: number of the calendar day of each hour, not decreasing, shape (T,).
        day_peak_kw: highest import of the first day before the window.
        bess: None without one.
        limit_kw: of all sockets together; infinite without one.
        phases: limits of groups of sockets.
        rated_kw: what an action of 1 asks of each socket, shape (sockets,).
        sessions: the vehicles.
        unserved_kg_per_kwh: CO2 of a kWh that a vehicle drives on gasoline instead.
    """

    load_kwh: FloatArray
    pv_kwh: FloatArray
    price_usd_per_kwh: FloatArray
    carbon_kg_per_kwh: FloatArray
    day: Index
    day_peak_kw: float
    bess: BessLimits | None
    limit_kw: float
    phases: tuple[Phase, ...]
    rated_kw: FloatArray
    sessions: Sessions
    unserved_kg_per_kwh: float

    @property
    def hours(self) -> int:
        """Number of hours, T."""
        return len(self.load_kwh)

    def present(self, first: int, last: int) -> Index:
        """Numbers of the sessions with an hour among ``first .. last - 1``: those of `part`, in its order."""
        return np.flatnonzero((self.sessions.last >= first) & (self.sessions.first < last))

    def part(self, first: int, last: int, bess_kwh: float, received_kwh: FloatArray) -> SiteWindow:
        """Hours ``first .. last - 1``, after what happened before.

        Where the part does not begin with a day, the running peak of its day is taken to be 0.

        Args:
            first: first hour.
            last: the hour after the last.
            bess_kwh: in the BESS at the start of the part.
            received_kwh: into each session's battery before the part, shape (sessions,).
        """
        inside = self.present(first, last)
        s = self.sessions.take(inside)
        received = received_kwh[inside]
        return replace(
            self,
            load_kwh=self.load_kwh[first:last],
            pv_kwh=self.pv_kwh[first:last],
            price_usd_per_kwh=self.price_usd_per_kwh[first:last],
            carbon_kg_per_kwh=self.carbon_kg_per_kwh[first:last],
            day=self.day[first:last],
            day_peak_kw=self.day_peak_kw if first == 0 else 0.0,
            bess=None if self.bess is None else replace(self.bess, start_kwh=bess_kwh),
            sessions=replace(
                s,
                first=np.maximum(s.first - first, 0),
                last=np.minimum(s.last, last - 1) - first,
                need_kwh=np.maximum(s.need_kwh - received, 0.0),
                room_kwh=np.maximum(s.room_kwh - received, 0.0),
            ),
        )


def window_of(years: SiteYears, year: int = 0, start: int = 0, steps: int | None = None) -> SiteWindow:
    """The hours ``start .. start + steps - 1`` of a year, as an episode of the environment has them.

    Vehicles that are there at the start begin with `YearTables.start_soc`, the BESS with its initial SOC; a
    vehicle whose last connected hour is not in the window can be charged but does not count.

    Args:
        years: of the site.
        year: number of the year.
        start: row of the first hour.
        steps: number of hours; to the year's last step if None.

    Raises:
        ValueError: hours that the year does not have, or a site that the programme would not be exact about.
    """
    parameters = years.parameters[year]
    _check_exact(parameters)
    steps = parameters.rows - 1 - start if steps is None else steps
    if start < 0 or steps < 1 or start + steps > parameters.rows - 1:
        raise ValueError(
            f"rows {start} to {start + steps - 1} are not a window of the year: its steps are rows 0 to "
            f"{parameters.rows - 2}"
        )
    rows = slice(int(years.first_row[year]) + start, int(years.first_row[year]) + start + steps)
    load, pv, price, carbon, hour = years.tables.hours[rows].astype(np.float64).T
    return SiteWindow(
        load_kwh=load,
        pv_kwh=pv,
        price_usd_per_kwh=price,
        carbon_kg_per_kwh=carbon,
        day=np.cumsum(hour == 0).astype(np.intp),
        day_peak_kw=0.0,
        bess=_bess_limits(years.parameters[0].bess),
        limit_kw=np.inf if parameters.limit_kw is None else parameters.limit_kw,
        phases=_phases(parameters),
        rated_kw=np.array([c.max_charging_kw for c in parameters.chargers], float),
        sessions=_sessions(years, year, rows),
        unserved_kg_per_kwh=parameters.unserved_kg_per_kwh,
    )


def socket_limits(parameters: SiteParameters) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Capacity (kWh), largest draw (kW) and efficiency of each vehicle at each socket.

    Returns:
        Three arrays: capacity of shape (vehicles,), the others of shape (vehicles, sockets).
    """
    batteries = list(parameters.vehicles.values())
    capacity = np.array([b.capacity_kwh for b in batteries], float)
    limit = np.array([b.nominal_power_kw * _value(b.power_curve) for b in batteries], float)
    root = np.sqrt([_value(b.efficiency_curve) for b in batteries])
    charger = np.array([_charger_efficiency(c) for c in parameters.chargers], float)
    rated = np.array([c.max_charging_kw for c in parameters.chargers], float)
    power = np.minimum(rated, limit[:, None] / charger)
    return capacity, power, root[:, None] * charger


def _sessions(years: SiteYears, year: int, rows: slice) -> Sessions:
    tables = years.tables
    occupied, vehicle = tables.occupied[rows], tables.vehicle[rows]
    hours_left = tables.hours_left[rows]
    begins = occupied & ~tables.stays[rows]
    begins[0] = occupied[0]
    # Sockets first, so that each session's hours are neighbours.
    socket, first = np.nonzero(begins.T)
    follows = np.zeros_like(begins)
    follows[:-1] = occupied[1:] & tables.stays[rows][1:]
    ends_socket, last = np.nonzero((occupied & ~follows).T)
    if not np.array_equal(socket, ends_socket):
        raise ValueError(f"{years.parameters[year].schema}: sessions that end without having begun")
    leaves = hours_left == 1.0
    if np.any(leaves & follows):
        row, column = np.argwhere(leaves & follows)[0]
        raise ValueError(
            f"{years.parameters[year].schema}: {years.socket_names[column]} counts a departure in row "
            f"{rows.start + row - years.first_row[year]}, but its vehicle stays"
        )
    capacities, powers, efficiencies = socket_limits(years.parameters[year])
    who = vehicle[first, socket].astype(np.intp)
    capacity = capacities[who]
    soc = np.where(first == 0, tables.start_soc[rows][first, socket], tables.new_soc[rows][first, socket])
    soc = soc.astype(np.float64)
    counts = leaves[last, socket]
    required_kwh = np.where(counts, tables.required_soc[rows][last, socket], 0.0) * capacity
    room_kwh = np.maximum((1.0 - soc) * capacity, 0.0)
    return Sessions(
        socket=socket.astype(np.intp),
        first=first.astype(np.intp),
        last=last.astype(np.intp),
        power_kw=powers[who, socket],
        efficiency=efficiencies[who, socket],
        # A vehicle that wants more than a full battery lacks the rest whatever is done.
        need_kwh=np.clip(required_kwh - soc * capacity, 0.0, None),
        room_kwh=room_kwh,
        required_kwh=required_kwh,
        departures=counts.astype(np.float64),
    )


def _value(curve: Curve) -> float:
    return curve[0][1]


def _is_flat(curve: Curve | None) -> bool:
    return curve is None or all(y == curve[0][1] for _, y in curve)


def _charger_efficiency(charger: ChargerParameters) -> float:
    return charger.efficiency if charger.charge_curve is None else _value(charger.charge_curve)


def _bess_limits(bess: BatteryParameters | None) -> BessLimits | None:
    if bess is None:
        return None
    return BessLimits(
        capacity_kwh=bess.capacity_kwh,
        floor_kwh=bess.floor_soc * bess.capacity_kwh,
        start_kwh=bess.initial_soc * bess.capacity_kwh,
        power_kw=bess.nominal_power_kw * min(_value(bess.power_curve), 1.0),
        nominal_kw=bess.nominal_power_kw,
        root=float(np.sqrt(_value(bess.efficiency_curve))),
    )


def _phases(parameters: SiteParameters) -> tuple[Phase, ...]:
    names = list(parameters.socket_names)
    return tuple(
        Phase(phase.limit_kw, np.array([names.index(n) for n in phase.sockets if n in names], np.intp))
        for phase in parameters.phases
        if phase.limit_kw is not None
    )


def _check_exact(parameters: SiteParameters) -> None:
    """Refuse a site that is not linear. Raises ValueError."""
    found = list(dict.fromkeys(_not_linear(parameters)))
    if found:
        raise ValueError(
            f"{parameters.schema}: the optimum is exact only where the site is linear; it has "
            f"{'; '.join(found)}. Compare with rules instead, or leave these out of the site"
        )


def _not_linear(parameters: SiteParameters) -> Iterator[str]:
    for charger in parameters.chargers:
        if charger.max_discharging_kw > 0:
            yield "sockets that discharge vehicles"
        if charger.min_charging_kw > 0:
            yield "sockets with a least charging power"
        if not _is_flat(charger.charge_curve):
            yield "chargers whose efficiency depends on power"
    batteries = [("vehicles", b) for b in parameters.vehicles.values()]
    if parameters.bess is not None:
        batteries.append(("a BESS", parameters.bess))
    for what, battery in batteries:
        if not _is_flat(battery.efficiency_curve):
            yield f"{what} whose efficiency depends on power"
        if not _is_flat(battery.power_curve):
            yield f"{what} whose power depends on the state of charge"
        if battery.capacity_loss > 0:
            yield f"{what} with wear (capacity_loss_coefficient)"
        if battery.loss_per_hour > 0:
            yield f"{what} with standby losses"
        if what == "vehicles" and battery.floor_soc > 0:
            yield "vehicles with a lowest state of charge"
