"""The linear programme of a charging site: every hour of a window at once, with everything known.

Columns, h hours, all energies in kWh (an hour is 1 h, so kW and kWh are the same numbers):

- per hour: import m, BESS charge c, BESS discharge d, BESS energy E at the end; per day: peak P;
- per hour: extra energy x into vehicles that are there for this hour only, all of them together;
- per vehicle that is there for one hour: its useful draw u, up to what it needs;
- per vehicle that stays longer: its draw in each hour, what it lacks z, and its energy beyond the need e.

Rows: ``m >= load - pv + c - d + draws`` · ``E = E_before + root c - d / root`` · ``m <= P`` ·
``draws <= feeder`` · the phases · ``efficiency draws + z - e = need`` of each vehicle that stays.

Why it is exact, though it is linear, is in docs/optimum.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csc_array

from iquitos_rl.control.optimum.goal import Goal
from iquitos_rl.control.optimum.window import BessLimits, SiteWindow

__all__ = ["NoSolutionError", "Programme", "Schedule", "without_simultaneous"]

FloatArray = NDArray[np.float64]
Index = NDArray[np.intp]

THROUGHPUT_SHARE = 1e-5
"""Breaks ties: a kWh into or out of the BESS costs this share of a mean kWh of import."""
MILP_GAP = 1e-6
OPTIMAL, INFEASIBLE = 0, 2  # scipy's numbers


class NoSolutionError(RuntimeError):
    """The solver found no optimum."""


@dataclass(frozen=True)
class Schedule:
    """What to do in a window.

    Attributes:
        bess_kw: power of the BESS at the grid side, positive when it charges, shape (T,).
        session, hour, draw_kw: what each session draws in which hour, one entry for each hour of its stay.
    """

    bess_kw: FloatArray
    session: Index
    hour: Index
    draw_kw: FloatArray


class _Rows:
    """Collects the entries of a sparse matrix row block by row block."""

    def __init__(self) -> None:
        self.count = 0
        self._rows: list[Index] = []
        self._columns: list[Index] = []
        self._values: list[FloatArray] = []
        self._lower: list[FloatArray] = []
        self._upper: list[FloatArray] = []

    def add(
        self, lower: FloatArray, upper: FloatArray, entries: list[tuple[Index, Index, FloatArray | float]]
    ) -> None:
        """A block of rows; ``entries`` are (row within the block, column, value)."""
        for row, column, value in entries:
            self._rows.append(row + self.count)
            self._columns.append(column)
            self._values.append(np.broadcast_to(np.asarray(value, float), row.shape))
        self._lower.append(lower)
        self._upper.append(upper)
        self.count += len(lower)

    def build(self, columns: int) -> tuple[csc_array, FloatArray, FloatArray]:
        matrix = csc_array(
            (np.concatenate(self._values), (np.concatenate(self._rows), np.concatenate(self._columns))),
            shape=(self.count, columns),
        )
        return matrix, np.concatenate(self._lower), np.concatenate(self._upper)


class Programme:
    """The programme of one window and one goal.

    Args:
        window: the site.
        goal: what is minimised.
    """

    def __init__(self, window: SiteWindow, goal: Goal) -> None:
        self.window = window
        self.goal = goal
        s = window.sessions
        self._brief = (s.first == s.last) & (len(window.phases) == 0)
        (self._brief_sessions,) = np.nonzero(self._brief)
        (self._long_sessions,) = np.nonzero(~self._brief)
        stay = s.last[self._long_sessions] - s.first[self._long_sessions] + 1
        # One entry for each hour of each vehicle that stays.
        self._entry_long = np.repeat(np.arange(len(stay)), stay)
        waited = np.arange(int(stay.sum())) - np.repeat(np.cumsum(stay) - stay, stay)
        self._entry_session = self._long_sessions[self._entry_long]
        self._entry_hour = s.first[self._entry_session] + waited
        self._waited = waited
        hours = window.hours
        days, self._day = np.unique(window.day, return_inverse=True)
        per_session = (len(self._brief_sessions), len(waited), len(stay), len(stay))
        edges = np.cumsum([0, *(hours,) * 4, len(days), hours, *per_session])
        blocks = [np.arange(a, b) for a, b in pairwise(edges.tolist())]
        (self._import, self._charge, self._discharge, self._energy, self._peak, self._extra) = blocks[:6]
        (self._useful, self._draw, self._lack, self._beyond) = blocks[6:]
        self.columns = int(edges[-1])

    def costs(self) -> FloatArray:
        """Cost of each column, in the goal's unit."""
        goal, s = self.goal, self.window.sessions
        cost = np.zeros(self.columns)
        # Export and BESS losses of an hour are a constant + import - draws - what the BESS holds more.
        surplus = np.broadcast_to(goal.surplus_price, (self.window.hours,))
        cost[self._import] = goal.import_price + surplus
        cost[self._energy] = -surplus
        cost[self._energy[:-1]] += surplus[1:]
        cost[self._energy[-1]] -= goal.stored_value
        cost[self._peak] = goal.peak_price
        value = goal.unserved_price + goal.shortfall_price * s.shortfall_per_kwh
        brief, long = self._brief_sessions, self._long_sessions
        cost[self._extra] = -surplus
        cost[self._useful] = -surplus[s.first[brief]] - value[brief] * s.efficiency[brief]
        cost[self._draw] = -surplus[self._entry_hour]
        cost[self._lack] = value[long]
        unit = goal.unit
        cost[self._charge] += THROUGHPUT_SHARE * unit
        cost[self._discharge] += THROUGHPUT_SHARE * unit
        cost[self._draw] += goal.waiting_share * unit * self._waited
        return cost / unit

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Least and largest value of each column."""
        window, s = self.window, self.window.sessions
        lower, upper = np.zeros(self.columns), np.full(self.columns, np.inf)
        bess = window.bess or BessLimits(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        upper[self._charge] = upper[self._discharge] = bess.power_kw
        lower[self._energy], upper[self._energy] = bess.floor_kwh, bess.capacity_kwh
        lower[self._peak[:1]] = window.day_peak_kw
        brief, long = self._brief_sessions, self._long_sessions
        useful, extra = self._brief_limits()
        upper[self._useful] = useful
        upper[self._extra] = np.bincount(s.first[brief], weights=extra, minlength=window.hours)
        upper[self._draw] = s.power_kw[self._entry_session]
        lower[self._lack] = np.maximum(s.need_kwh - s.room_kwh, 0.0)[long]
        upper[self._lack] = s.need_kwh[long]
        upper[self._beyond] = np.maximum(s.room_kwh - s.need_kwh, 0.0)[long]
        return lower, upper

    def _brief_limits(self) -> tuple[FloatArray, FloatArray]:
        """Most useful draw and most extra draw (kWh) of the vehicles that are there for one hour."""
        s = self.window.sessions.take(self._brief)
        most = np.minimum(s.power_kw, s.room_kwh / s.efficiency)
        useful = np.minimum(most, s.need_kwh / s.efficiency)
        return useful, most - useful

    def _rows(self, least_satisfaction: float | None) -> _Rows:
        window, s = self.window, self.window.sessions
        rows = _Rows()
        hour = np.arange(window.hours)
        none, unlimited = np.zeros(window.hours), np.full(window.hours, np.inf)
        brief_hour = s.first[self._brief_sessions]
        draws = [(hour, self._extra), (brief_hour, self._useful), (self._entry_hour, self._draw)]
        rows.add(
            window.load_kwh - window.pv_kwh,
            unlimited,
            [
                (hour, self._import, 1.0),
                (hour, self._charge, -1.0),
                (hour, self._discharge, 1.0),
                *((row, column, -1.0) for row, column in draws),
            ],
        )
        rows.add(none, unlimited, [(hour, self._peak[self._day], 1.0), (hour, self._import, -1.0)])
        bess = window.bess
        if bess is not None:
            start = none.copy()
            start[0] = bess.start_kwh
            entries: list[tuple[Index, Index, FloatArray | float]] = [
                (hour, self._energy, 1.0),
                (hour[1:], self._energy[:-1], -1.0),
                (hour, self._charge, -bess.root),
                (hour, self._discharge, 1.0 / bess.root),
            ]
            rows.add(start, start, entries)
        if np.isfinite(window.limit_kw):
            limit = np.full(window.hours, window.limit_kw)
            rows.add(-unlimited, limit, [(row, column, 1.0) for row, column in draws])
        for phase in window.phases:
            on = np.isin(s.socket[self._entry_session], phase.sockets)
            limit = np.full(window.hours, phase.limit_kw)
            rows.add(-unlimited, limit, [(self._entry_hour[on], self._draw[on], 1.0)])
        long = np.arange(len(self._long_sessions))
        need = s.need_kwh[self._long_sessions]
        rows.add(
            need,
            need,
            [
                (self._entry_long, self._draw, s.efficiency[self._entry_session]),
                (long, self._lack, 1.0),
                (long, self._beyond, -1.0),
            ],
        )
        if least_satisfaction is not None:
            self._add_satisfaction(rows, least_satisfaction)
        return rows

    def _add_satisfaction(self, rows: _Rows, least: float) -> None:
        s = self.window.sessions
        per_kwh = s.shortfall_per_kwh
        brief, long = self._brief_sessions, self._long_sessions
        # Of the brief, what they would lack without charging, less what they are given.
        lacking = float((s.need_kwh * per_kwh)[brief].sum())
        most = (1.0 - least) * float(s.departures.sum()) - lacking
        one, other = np.zeros(len(long), np.intp), np.zeros(len(brief), np.intp)
        rows.add(
            np.array([-np.inf]),
            np.array([most]),
            [
                (one, self._lack, per_kwh[long]),
                (other, self._useful, -(per_kwh * s.efficiency)[brief]),
            ],
        )

    def solve(
        self, *, least_satisfaction: float | None = None, forbid_simultaneous: bool = False
    ) -> Schedule:
        """The cheapest schedule.

        Args:
            least_satisfaction: mean of all departures that must be reached.
            forbid_simultaneous: a whole number per hour says that the BESS either charges or discharges. This
                changes no optimum (`without_simultaneous`) and takes longer; tests compare the two.

        Raises:
            ValueError: a satisfaction that nothing reaches.
            NoSolutionError: the solver stopped without an optimum.
        """
        costs, (lower, upper) = self.costs(), self.bounds()
        rows = self._rows(least_satisfaction)
        whole = np.zeros(self.columns)
        if forbid_simultaneous and self.window.bess is not None:
            hour = np.arange(self.window.hours)
            flag = self.columns + hour
            power = self.window.bess.power_kw
            none, unlimited = np.zeros(len(hour)), np.full(len(hour), np.inf)
            rows.add(-unlimited, none, [(hour, self._charge, 1.0), (hour, flag, -power)])
            rows.add(-unlimited, none + power, [(hour, self._discharge, 1.0), (hour, flag, power)])
            costs, lower, whole = (np.concatenate([a, none]) for a in (costs, lower, whole))
            upper = np.concatenate([upper, none + 1.0])
            whole[flag] = 1
        matrix, low, high = rows.build(len(costs))
        result = milp(
            costs,
            integrality=whole,
            bounds=Bounds(lower, upper),
            constraints=LinearConstraint(matrix, low, high),
            options={"mip_rel_gap": MILP_GAP},
        )
        if result.status == INFEASIBLE and least_satisfaction is not None:
            raise ValueError(f"satisfaction {least_satisfaction:g}: more than anything reaches at this site")
        if result.status != OPTIMAL:
            raise NoSolutionError(f"no optimum found: {result.message}")
        return self.schedule(result.x)

    def schedule(self, x: FloatArray) -> Schedule:
        """The schedule of a solution, shape (columns,)."""
        window, s = self.window, self.window.sessions
        brief = self._brief_sessions
        _, extra = self._brief_limits()
        hour = s.first[brief]
        room = np.bincount(hour, weights=extra, minlength=window.hours)
        share = np.divide(x[self._extra], room, out=np.zeros(window.hours), where=room > 0)
        return Schedule(
            bess_kw=without_simultaneous(x[self._charge], x[self._discharge], window.bess),
            session=np.concatenate([brief, self._entry_session]),
            hour=np.concatenate([hour, self._entry_hour]),
            draw_kw=np.maximum(np.concatenate([x[self._useful] + extra * share[hour], x[self._draw]]), 0.0),
        )


def without_simultaneous(
    charge_kw: FloatArray, discharge_kw: FloatArray, bess: BessLimits | None
) -> FloatArray:
    """Power of the BESS (kW, + charge) that stores the same and never does both at once; shape (T,).

    Let ``s = root c - d / root`` be what is stored in an hour, and ``b = s / root`` if s >= 0, ``b = root s``
    if not. Then ``c - d - b`` is ``d (1 / root^2 - 1)`` or ``c (1 - root^2)``, never below 0: the site takes
    no more from the grid, and import plus what is stored, hence export plus losses (docs/optimum.md), is no
    more either. ``b`` is at most c, ``-b`` at most d, so it keeps the limits of power. No cost rises.
    """
    if bess is None:
        return np.zeros_like(charge_kw)
    stored = bess.root * charge_kw - discharge_kw / bess.root
    return np.where(stored >= 0, stored / bess.root, stored * bess.root)
