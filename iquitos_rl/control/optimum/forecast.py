"""What an operator expects of the next hours: load, sun and arrivals, learned from years gone by.

Nothing of the year that is controlled is used but its calendar, and what has been seen of it so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.control.optimum.window import FLUID, Sessions, window_of
from iquitos_rl.env.batch.tables import read_site_tables
from iquitos_rl.env.batch.years import SiteYears
from iquitos_rl.kpis import HOURS_PER_DAY

__all__ = ["HORIZON_HOURS", "Forecaster", "SocketProfile"]

FloatArray = NDArray[np.float64]
Index = NDArray[np.intp]

HORIZON_HOURS = 48
"""How far ahead PV is forecast at most."""
HOURS_PER_WEEK = 168
SEASON_DAYS = 15
"""The PV of a day of the year is averaged with so many days before and after it."""
DAYLIGHT_SHARE = 0.05
"""An hour says something about clouds if its mean PV is this share of the highest."""


@dataclass(frozen=True)
class SocketProfile:
    """What vehicles do at each socket, shape (sockets,): most draw (kW), and efficiency into the battery."""

    power_kw: FloatArray
    efficiency: FloatArray


@dataclass(frozen=True)
class Forecaster:
    """Expected values, by the calendar.

    Attributes:
        load_kwh, price_usd_per_kwh, carbon_kg_per_kwh: of the hours of a week from Monday, shape (168,).
        pv_mean_kwh: of every hour of the year, mean of years and season, shape (hours of a year,).
        pv_persistence: how the next hours follow what was seen: of each lead from 1 hour, the weights of this
            hour's and of the last 24 hours' deviation from the mean; shape (HORIZON_HOURS - 1, 2).
        arrivals: expected sessions, in the order of the hour of the week in which they begin (``first``,
            0-167); ``last`` counts from ``first``.
        arrivals_from: number of the first session of each hour of the week, and of all, shape (169,).
        sockets: what vehicles do at each socket.
    """

    load_kwh: FloatArray
    price_usd_per_kwh: FloatArray
    carbon_kg_per_kwh: FloatArray
    pv_mean_kwh: FloatArray
    pv_persistence: FloatArray
    arrivals: Sessions
    arrivals_from: Index
    sockets: SocketProfile

    @classmethod
    def fit(cls, years: SiteYears) -> Forecaster:
        """Learn from years, which must not be the one that is controlled.

        Raises:
            ValueError: a site that is not linear (`window_of`).
        """
        tables = [read_site_tables(p) for p in years.parameters]
        of_week = np.concatenate([t.day_type * HOURS_PER_DAY + t.hour for t in tables]).astype(np.intp)

        def weekly(name: str) -> FloatArray:
            values = np.concatenate([getattr(t, name) for t in tables]).astype(np.float64)
            counts = np.bincount(of_week, minlength=HOURS_PER_WEEK)
            sums = np.bincount(of_week, weights=values, minlength=HOURS_PER_WEEK)
            # An hour of the week that the years lack is as the mean of all.
            return np.where(counts > 0, sums / np.maximum(counts, 1), values.mean())

        pv = [t.pv_kwh.astype(np.float64) for t in tables]
        mean = _seasonal_mean(pv)
        arrivals, sockets = _expected_sessions(years, [t.day_type for t in tables], [t.hour for t in tables])
        return cls(
            load_kwh=weekly("load_kwh"),
            price_usd_per_kwh=weekly("price"),
            carbon_kg_per_kwh=weekly("carbon_intensity"),
            pv_mean_kwh=mean,
            pv_persistence=_persistence(pv, mean),
            arrivals=arrivals,
            arrivals_from=np.searchsorted(arrivals.first, np.arange(HOURS_PER_WEEK + 1)).astype(np.intp),
            sockets=sockets,
        )

    def pv_kwh(self, hour_of_year: int, hours: int, seen_kwh: FloatArray) -> FloatArray:
        """PV of an hour and those after it, shape (hours,); the first is the last of ``seen_kwh``.

        Args:
            hour_of_year: the present hour.
            hours: how many, at most `HORIZON_HOURS`.
            seen_kwh: what was seen until the present hour, which is the last; 24 hours are of use.
        """
        mean = self.pv_mean_kwh.take(np.arange(hour_of_year, hour_of_year + hours), mode="wrap")
        back = np.arange(hour_of_year - min(len(seen_kwh), HOURS_PER_DAY) + 1, hour_of_year + 1)
        past = self.pv_mean_kwh.take(back, mode="wrap")
        deviations = _deviations(seen_kwh[-len(past) :], past, float(self.pv_mean_kwh.max()))
        expected = mean.copy()
        expected[1:] *= np.maximum(1.0 + self.pv_persistence[: hours - 1] @ deviations, 0.0)
        expected[0] = seen_kwh[-1]
        return expected

    def week_hours(self, hour_of_week: int, hours: int) -> Index:
        """The hours of the week from one of them on, shape (hours,)."""
        return np.arange(hour_of_week, hour_of_week + hours) % HOURS_PER_WEEK

    def expected_sessions(self, hour_of_week: int, hours: int) -> Sessions:
        """Sessions that begin after the present hour (0) and before ``hours``, cut at the end."""
        ahead = self.week_hours(hour_of_week, hours)[1:]
        counts = self.arrivals_from[ahead + 1] - self.arrivals_from[ahead]
        which = np.repeat(self.arrivals_from[ahead] - (np.cumsum(counts) - counts), counts)
        expected = self.arrivals.take(which + np.arange(int(counts.sum())))
        begin = np.repeat(np.arange(1, hours), counts)
        expected.first[:] = begin
        expected.last[:] += begin
        return cut_at(expected, hours)


def cut_at(sessions: Sessions, hours: int) -> Sessions:
    """Sessions as a horizon of so many hours sees them: who stays longer wants a share of its need in it."""
    stay = sessions.last - sessions.first + 1
    last = np.minimum(sessions.last, hours - 1)
    share = (last - sessions.first + 1) / stay
    values = {f.name: getattr(sessions, f.name) for f in fields(Sessions)}
    return Sessions(**(values | {"last": last, "need_kwh": sessions.need_kwh * share}))


def _seasonal_mean(pv: Sequence[FloatArray]) -> FloatArray:
    """Mean PV of every hour of the year, over years and neighbouring days; whole days."""
    days = max(len(year) for year in pv) // HOURS_PER_DAY
    sums, counts = np.zeros((2, max(days, 1), HOURS_PER_DAY))
    for year in pv:
        hour = np.arange(min(len(year), days * HOURS_PER_DAY))
        np.add.at(sums, (hour // HOURS_PER_DAY, hour % HOURS_PER_DAY), year[: len(hour)])
        np.add.at(counts, (hour // HOURS_PER_DAY, hour % HOURS_PER_DAY), 1.0)
    reach = min(SEASON_DAYS, (len(sums) - 1) // 2)
    around = np.arange(-reach, reach + 1)
    near = (np.arange(len(sums))[:, None] + around) % len(sums)
    smooth: FloatArray = sums[near].sum(axis=1) / np.maximum(counts[near].sum(axis=1), 1.0)
    return smooth.ravel()


def _deviations(seen: FloatArray, mean: FloatArray, highest: float) -> FloatArray:
    """Relative deviation from the mean of the last hour and of all hours seen, shape (2,)."""
    total = float(mean.sum())
    day = float(seen.sum()) / total - 1.0 if total > DAYLIGHT_SHARE * highest else 0.0
    if len(mean) == 0 or mean[-1] <= DAYLIGHT_SHARE * highest:
        return np.array([day, day])
    return np.array([float(seen[-1]) / float(mean[-1]) - 1.0, day])


def _persistence(pv: Sequence[FloatArray], mean: FloatArray) -> FloatArray:
    """Weights of `_deviations` in the deviation of each later hour, by least squares; zeros without PV."""
    weights = np.zeros((HORIZON_HOURS - 1, 2))
    highest = float(mean.max())
    if highest <= 0:
        return weights
    for lead in range(1, HORIZON_HOURS):
        products, target = np.zeros((2, 2)), np.zeros(2)
        for year in pv:
            at = np.arange(HOURS_PER_DAY, len(year) - lead)
            profile = mean.take(np.arange(len(year)), mode="wrap")
            sums = np.concatenate([[0.0], np.cumsum(year)]), np.concatenate([[0.0], np.cumsum(profile)])
            seen, usual = (s[at + 1] - s[at + 1 - HOURS_PER_DAY] for s in sums)
            day = seen / np.maximum(usual, DAYLIGHT_SHARE * highest) - 1.0
            bright = profile[at] > DAYLIGHT_SHARE * highest
            hour = np.where(bright, year[at] / np.maximum(profile[at], DAYLIGHT_SHARE * highest) - 1.0, day)
            later = profile[at + lead]
            x = np.stack([hour, day], axis=1) * later[:, None]
            products += x.T @ x
            target += x.T @ (year[at + lead] - later)
        weights[lead - 1] = np.linalg.lstsq(products, target, rcond=1e-9)[0]
    return weights


def _expected_sessions(
    years: SiteYears, day_type: Sequence[NDArray[np.int32]], hour: Sequence[NDArray[np.int32]]
) -> tuple[Sessions, SocketProfile]:
    """Mean sessions by hour of the week, length of stay and kind of socket; and what sockets do."""
    parts, of_week, weeks = [], [], np.zeros(HOURS_PER_WEEK)
    for year in range(len(years.parameters)):
        window = window_of(years, year)
        here = (day_type[year] * HOURS_PER_DAY + hour[year]).astype(np.intp)[: window.hours]
        weeks += np.bincount(here, minlength=HOURS_PER_WEEK)
        # Vehicles met at the start of the data arrived before it.
        counted = window.sessions.take((window.sessions.departures > 0) & (window.sessions.first > 0))
        parts.append(counted)
        of_week.append(here[counted.first])
    s, begin = Sessions.join(parts), np.concatenate(of_week)
    rated = np.array([c.max_charging_kw for c in years.parameters[0].chargers], float)
    profile = _profile(s, rated)
    _, kind = np.unique(np.stack([rated, profile.efficiency.round(6)]), axis=1, return_inverse=True)
    stay = s.last - s.first
    # Hour, stay and kind as one number, whose order is that of the hour.
    stays = int(stay.max(initial=0)) + 1
    kinds = int(kind.max(initial=0)) + 1
    keys = (begin * stays + stay) * kinds + kind.ravel()[s.socket]
    groups, member = np.unique(keys, return_inverse=True)
    size = np.bincount(member, minlength=len(groups))
    hour_of_week, stay_of_group = groups // (stays * kinds), groups // kinds % stays
    # Of all together, per occurrence of the hour.
    per_hour = 1.0 / np.maximum(weeks[hour_of_week], 1)

    def together(values: FloatArray) -> FloatArray:
        return np.bincount(member, weights=values, minlength=len(size)) * per_hour

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(member, weights=values, minlength=len(size)) / np.maximum(size, 1)

    return Sessions(
        socket=np.full(len(size), FLUID, np.intp),
        first=hour_of_week.astype(np.intp),
        last=stay_of_group.astype(np.intp),
        power_kw=together(s.power_kw),
        efficiency=mean(s.efficiency),
        need_kwh=together(s.need_kwh),
        room_kwh=together(s.room_kwh),
        required_kwh=mean(s.required_kwh),
        departures=size * per_hour,
    ), profile


def _profile(sessions: Sessions, rated_kw: FloatArray) -> SocketProfile:
    """Means of what was seen at each socket; rated power without losses where nothing was."""
    count = np.bincount(sessions.socket, minlength=len(rated_kw))

    def mean(values: FloatArray, unseen: FloatArray) -> FloatArray:
        sums = np.bincount(sessions.socket, weights=values, minlength=len(rated_kw))
        return np.where(count > 0, sums / np.maximum(count, 1), unseen)

    return SocketProfile(mean(sessions.power_kw, rated_kw), mean(sessions.efficiency, np.ones_like(rated_kw)))
