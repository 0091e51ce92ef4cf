"""The oracle as a controller: the optimum's schedule, replayed hour by hour."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.control.controller import Kind, UnsuitableError
from iquitos_rl.control.optimum.optimum import solve_optimum
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.env.situation import Episode, Situation

__all__ = ["ORACLE", "Oracle", "parse_oracle"]

ORACLE = "oracle"
LEAST_SATISFACTION = re.compile(r"oracle_satisfaction_(0\.\d+|1\.0+|1)")


class Oracle:
    """Perfect foresight: the schedule that nothing beats, which no one could know beforehand.

    Args:
        name: what tables call it.
        minimise: the score, or grid import.
        least_satisfaction: mean satisfaction to be reached; "most" puts satisfaction first.
    """

    mask_idle = True
    kind: Kind = "optimum"
    observation = None
    memoryless = True

    def __init__(
        self,
        name: str = ORACLE,
        *,
        minimise: Literal["score", "import"] = "score",
        least_satisfaction: float | Literal["most"] | None = None,
    ) -> None:
        self.name = name
        self._minimise = minimise
        self._least_satisfaction = least_satisfaction
        self.settings: dict[str, Any] = {"minimise": minimise, "least_satisfaction": least_satisfaction}

    def prepare(self, episode: Episode) -> None:
        """Solve the episode; a quarter of a minute for a year.

        Raises:
            UnsuitableError: a site whose physics are not linear or that the batch engine cannot read, or a
                satisfaction that nothing reaches.
        """
        self._first = episode.start_step
        try:
            self._actions = solve_optimum(
                load_years([episode.schema]),
                0,
                episode.start_step,
                episode.steps,
                reference=episode.reference,
                weights=episode.weights,
                minimise=self._minimise,
                least_satisfaction=self._least_satisfaction,
            ).actions
        except ValueError as error:
            raise UnsuitableError(f"{self.name}: {error}") from None

    def act(self, situation: Situation) -> NDArray[np.float32]:
        """The scheduled actions of each site's hour."""
        return self._actions[situation.site.hour_of_year.astype(np.intp) - self._first]


def parse_oracle(name: str) -> Oracle | None:
    """The oracle of a name, None if it is none.

    ``oracle`` minimises the score; ``oracle_satisfaction_first`` serves vehicles as well as can be, and then
    imports as little as that allows; ``oracle_satisfaction_0.91`` imports as little as a mean satisfaction of
    91 % allows.
    """
    if name == ORACLE:
        return Oracle()
    if name == "oracle_satisfaction_first":
        return Oracle(name, minimise="import", least_satisfaction="most")
    least = LEAST_SATISFACTION.fullmatch(name)
    return None if least is None else Oracle(name, minimise="import", least_satisfaction=float(least[1]))
