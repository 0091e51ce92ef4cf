"""The oracle: the best schedule of a stretch of a year, known in advance, and the frontier of the possible.

A bound that nothing beats, not a controller that anyone could run: it knows every arrival and every cloud.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.control.optimum.goal import Goal, import_goal, score_goal
from iquitos_rl.control.optimum.plan import Plan, plan_of, received_kwh
from iquitos_rl.control.optimum.programme import Programme, Schedule
from iquitos_rl.control.optimum.window import SiteWindow, window_of
from iquitos_rl.env.batch.years import SiteYears
from iquitos_rl.kpis import HOURS_PER_DAY
from iquitos_rl.objectives import NoControlReference, score

__all__ = ["FrontierPoint", "Optimum", "frontier", "solve_optimum", "solve_schedule"]

FloatArray = NDArray[np.float64]

MOST: Literal["most"] = "most"
LOOK_AHEAD_DAYS = 1
SATISFACTION_SLACK = 1e-7
"""What a second programme may lose of the first one's satisfaction, so that rounding leaves it a solution."""
FRONTIER_BLOCK_DAYS = 7
FULL_PRICE_FACTOR = 100.0
"""Satisfaction comes first if it costs this many times what serving any vehicle takes."""
FREE_PRICE_SHARE = 1e-5
"""Of that price: too little for any import, but enough for what is free."""
SAME = 1e-6
"""Points of the frontier nearer than this in satisfaction are one."""


@dataclass(frozen=True)
class Optimum:
    """The best schedule of some hours.

    Attributes:
        plan: the schedule and what comes of it.
        actions: the same for the environment (with ``mask_idle`` or without), shape (T, actions): the BESS
            first, if any.
        score: of the plan.
        score_components: weighted ratios that sum to it.
    """

    plan: Plan
    actions: NDArray[np.float32]
    score: float
    score_components: dict[str, float]


def solve_optimum(
    years: SiteYears,
    year: int = 0,
    start: int = 0,
    steps: int | None = None,
    *,
    reference: NoControlReference,
    weights: RewardWeights,
    minimise: Literal["score", "import"] = "score",
    least_satisfaction: float | Literal["most"] | None = None,
    block_days: int | None = None,
) -> Optimum:
    """The optimum with perfect foresight of the hours ``start .. start + steps - 1`` of a year.

    Args:
        years: of the site.
        year: number of the year.
        start: row of the first hour.
        steps: number of hours; to the year's last step if None.
        reference: no control over the same hours.
        weights: of the objectives.
        minimise: the score, or grid import.
        least_satisfaction: mean satisfaction that must be reached; "most" puts satisfaction first: the
            highest that there is, and of all schedules that reach it the best.
        block_days: solve in blocks of so many days, each with a day of look-ahead, instead of all hours at
            once. Half the time for a year, and nearly the same.

    Raises:
        ValueError: hours that the year does not have, a site that is not linear, a satisfaction that nothing
            reaches, or one that is asked for together with blocks.
        NoSolutionError: the solver stopped without an optimum.
    """
    window = window_of(years, year, start, steps)
    goal = score_goal(window, reference, weights) if minimise == "score" else import_goal(window, 0.0)
    if least_satisfaction is not None and block_days is not None:
        raise ValueError("least_satisfaction is a mean over all hours: leave out block_days")
    if least_satisfaction == MOST:
        served = plan_of(window, Programme(window, import_goal(window, _full_price_kwh(window))).solve())
        highest = served.kpis["ev_satisfaction"]
        least_satisfaction = None if highest is None else max(0.0, highest - SATISFACTION_SLACK)
    if block_days is not None:
        schedule = solve_schedule(window, goal, block_days)
    else:
        schedule = Programme(window, goal).solve(least_satisfaction=least_satisfaction)
    plan = plan_of(window, schedule)
    total, components = score(plan.objectives, reference, weights)
    return Optimum(plan, _actions(window, plan), total, components)


def solve_schedule(window: SiteWindow, goal: Goal, block_days: int) -> Schedule:
    """The schedule that blocks of days give, each solved with a day of look-ahead, one after the other.

    Vehicles and the BESS are handed over from block to block as they are. The schedule is feasible, so it is
    never better than the optimum.

    Raises:
        ValueError: ``block_days`` below 1.
    """
    if block_days < 1:
        raise ValueError(f"block_days {block_days}: expected 1 or more")
    days = np.flatnonzero(np.diff(window.day, prepend=window.day[0] - 1))
    edges = [*days[::block_days].tolist(), window.hours]
    received = np.zeros(len(window.sessions))
    bess_kwh = 0.0 if window.bess is None else window.bess.start_kwh
    parts: list[Schedule] = []
    for first, end in pairwise(edges):
        seen = min(end + LOOK_AHEAD_DAYS * HOURS_PER_DAY, window.hours)
        there = window.present(first, seen)
        part = window.part(first, seen, bess_kwh, received)
        found = Programme(part, goal.part(first, seen)).solve()
        kept = found.hour < end - first
        block = Schedule(
            bess_kw=found.bess_kw[: end - first],
            session=there[found.session[kept]],
            hour=found.hour[kept] + first,
            draw_kw=found.draw_kw[kept],
        )
        received += received_kwh(window, block)
        if window.bess is not None:
            stored = np.where(
                block.bess_kw >= 0, block.bess_kw * window.bess.root, block.bess_kw / window.bess.root
            )
            # Rounding must not leave the next block without a solution.
            bess_kwh = float(
                np.clip(bess_kwh + stored.sum(), window.bess.floor_kwh, window.bess.capacity_kwh)
            )
        parts.append(block)
    return Schedule(
        bess_kw=np.concatenate([p.bess_kw for p in parts]),
        session=np.concatenate([p.session for p in parts]),
        hour=np.concatenate([p.hour for p in parts]),
        draw_kw=np.concatenate([p.draw_kw for p in parts]),
    )


@dataclass(frozen=True)
class FrontierPoint:
    """A point that no schedule improves in both ways.

    Attributes:
        satisfaction: mean of the departures.
        grid_import_kwh: least import that reaches it.
        price_kwh: import that another whole departure's satisfaction would cost here.
    """

    satisfaction: float
    grid_import_kwh: float
    price_kwh: float


def frontier(
    window: SiteWindow, points: int = 9, block_days: int | None = FRONTIER_BLOCK_DAYS
) -> list[FrontierPoint]:
    """Points of the frontier of grid import over satisfaction, by rising satisfaction.

    The frontier is convex, so a price of dissatisfaction finds a point of it. The ends are those of next to
    no price (service that takes no import) and of a very high one; every further point has the price that is
    the slope of the chord that spans most so far.

    Args:
        window: the site, with departures.
        points: how many at most; fewer if the frontier has no more corners.
        block_days: as in `solve_optimum`; None for all hours at once.

    Raises:
        ValueError: nobody departs in the window.
    """
    departures = float(window.sessions.departures.sum())
    if departures <= 0:
        raise ValueError("no vehicle departs within these hours: there is no satisfaction to trade")

    def at(price_kwh: float) -> FrontierPoint:
        goal = import_goal(window, price_kwh)
        schedule = (
            Programme(window, goal).solve()
            if block_days is None
            else solve_schedule(window, goal, block_days)
        )
        kpis = plan_of(window, schedule).kpis
        satisfaction, imported = kpis["ev_satisfaction"], kpis["grid_import_kwh"]
        assert satisfaction is not None
        assert imported is not None
        return FrontierPoint(satisfaction, imported, price_kwh)

    full_price_kwh = _full_price_kwh(window)
    found = [at(full_price_kwh * FREE_PRICE_SHARE), at(full_price_kwh)]
    closed: set[tuple[float, float]] = set()
    while len(found) < points:
        chords = [
            ((b.satisfaction - a.satisfaction) * (b.grid_import_kwh - a.grid_import_kwh), a, b)
            for a, b in pairwise(found)
            if (a.satisfaction, b.satisfaction) not in closed and b.satisfaction - a.satisfaction > SAME
        ]
        if not chords:
            break
        _, a, b = max(chords, key=lambda chord: chord[0])
        missing = (b.satisfaction - a.satisfaction) * departures
        new = at((b.grid_import_kwh - a.grid_import_kwh) / missing)
        if a.satisfaction + SAME < new.satisfaction < b.satisfaction - SAME:
            found = sorted([*found, new], key=lambda point: point.satisfaction)
        else:
            closed.add((a.satisfaction, b.satisfaction))
    return found


def _full_price_kwh(window: SiteWindow) -> float:
    """A price of dissatisfaction (kWh of import per departure) at which nobody is left short for import."""
    s = window.sessions
    return FULL_PRICE_FACTOR * float(np.max(s.required_kwh / s.efficiency, initial=1.0))


def _actions(window: SiteWindow, plan: Plan) -> NDArray[np.float32]:
    """The environment's actions of a plan."""
    rated = np.where(window.rated_kw > 0, window.rated_kw, 1.0)
    sockets = np.clip(plan.sockets_kw / rated, 0.0, 1.0)
    if window.bess is None:
        return sockets.astype(np.float32)
    nominal = window.bess.nominal_kw if window.bess.nominal_kw > 0 else 1.0
    bess = np.clip(plan.bess_kw / nominal, -1.0, 1.0)
    return np.concatenate([bess[:, None], sockets], axis=1).astype(np.float32)
