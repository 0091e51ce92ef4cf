"""A plan through the environment: does the site do what the programme says?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.flows import hourly_flows
from iquitos_rl.env.batch.years import SiteYears
from iquitos_rl.kpis import HOURLY_COLUMNS, key_performance_indicators, total_objectives
from iquitos_rl.objectives import NoControlReference

__all__ = ["Replay", "drive", "replay"]

Replay = tuple[dict[str, float | int | None], tuple[float, ...]]
"""KPIs, and the five objectives."""

# What the engine's rewards would be divided by: nothing here looks at them.
_UNIT = NoControlReference((1.0,) * 5, 1, 1, 1)


def replay(years: SiteYears, year: int, start: int, actions: NDArray[np.float32]) -> Replay:
    """What actions, shape (T, actions), do on the batch engine from row ``start`` of a year."""
    return drive(years, year, start, len(actions), lambda engine, step: actions[step][None])


def drive(
    years: SiteYears,
    year: int,
    start: int,
    steps: int,
    act: Callable[[BatchEngine, int], NDArray[np.float32]],
) -> Replay:
    """KPIs and objectives of ``steps`` hours on the batch engine.

    Args:
        years: of the site.
        year: number of the year.
        start: row of the first hour.
        steps: number of hours.
        act: the action, shape (1, actions), of an engine's present hour and the number of the step.
    """
    engine = BatchEngine(years, 1, weights=RewardWeights(), reference=_UNIT)
    engine.reset(np.array([0]), np.array([year]), np.array([start]))
    stored_kwh = float(engine.bess_stored_kwh[0])
    flows = []
    for step in range(steps):
        engine.step(act(engine, step))
        hour = hourly_flows(engine)
        flows.append([float(hour[name][0]) for name in HOURLY_COLUMNS])
    columns = dict(zip(HOURLY_COLUMNS, np.array(flows).T, strict=True))
    unserved_kg_per_kwh = years.parameters[year].unserved_kg_per_kwh
    kpis = key_performance_indicators(
        columns,
        bess_stored_change_kwh=float(engine.bess_end_kwh[0]) - stored_kwh,
        unserved_kg_per_kwh=unserved_kg_per_kwh,
    )
    return kpis, total_objectives(columns, unserved_kg_per_kwh)
