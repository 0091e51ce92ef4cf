"""Model-predictive control as a controller: what a user would deploy instead of a trained policy."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.control.controller import Kind, UnsuitableError
from iquitos_rl.control.optimum.predictive import PredictivePlanner
from iquitos_rl.control.rules import as_action
from iquitos_rl.env.batch.simulator import BatchSimulator
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.env.no_control import mean_reference, unit_reference
from iquitos_rl.env.situation import Episode, Situation
from iquitos_rl.kpis import HOURS_PER_DAY

__all__ = ["Mpc"]


class Mpc:
    """Solves the rest of today and tomorrow anew every hour, with an operator's forecasts.

    It knows the present hour and the vehicles that are there, as every controller does. Of what comes it
    knows what the training years teach: the usual load, price and arrivals of each hour of the week, and the
    usual sun of the season, corrected by what was seen of it in the last day.

    Attributes:
        solve_seconds: of each hour of the present episode.
    """

    name = "mpc"
    kind: Kind = "rule"
    mask_idle = True
    observation = None
    memoryless = False

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {"forecast": "training years, persistence of the sun"}
        self.solve_seconds: list[float] = []

    def prepare(self, episode: Episode) -> None:
        """Learn from the training years.

        Raises:
            UnsuitableError: there are none, or a site whose physics are not linear or that the batch engine
                cannot read.
        """
        if not episode.training_schemas:
            raise UnsuitableError(
                "mpc learns its forecasts from training years: evaluate it on a dataset's year"
            )
        self._plant = episode.plant
        schemas = episode.training_schemas
        weights = episode.weights
        try:
            reference = mean_reference(
                schemas,
                lambda: BatchSimulator(schemas, raw=False, weights=weights, reference=unit_reference()),
            )
            self._planner = PredictivePlanner(load_years(schemas), reference, weights)
        except ValueError as error:
            raise UnsuitableError(f"{self.name}: {error}") from None
        self._pv_seen_kwh: list[float] = []
        self.solve_seconds = []

    def act(self, situation: Situation) -> NDArray[np.float64]:
        """The first hour of the plan."""
        started = time.perf_counter()
        self._pv_seen_kwh = [*self._pv_seen_kwh[1 - HOURS_PER_DAY :], float(situation.site.pv_kwh[0, 0])]
        bess_kw, sockets_kw = self._planner.plan(situation, np.array(self._pv_seen_kwh))
        self.solve_seconds.append(time.perf_counter() - started)
        return as_action(sockets_kw[None], np.array([bess_kw]), self._plant)
