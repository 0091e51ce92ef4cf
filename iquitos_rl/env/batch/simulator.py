"""The batch engine as the simulator of a single environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.flows import hourly_flows
from iquitos_rl.env.batch.situation import engine_situation, plant_of
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.env.situation import Situation
from iquitos_rl.objectives import OBJECTIVES, NoControlReference

__all__ = ["BatchSimulator"]

ONLY = np.zeros(1, np.intp)
"""The one environment."""


class BatchSimulator:
    """A `Simulator` that is the batch engine, with one environment; as `CityLearnYears`.

    Raises:
        UnsupportedSchemaError: the site has features that the engine does not model.
        ValueError: the years are not of one site.
    """

    def __init__(
        self, schemas: Sequence[Path], *, raw: bool, weights: RewardWeights, reference: NoControlReference
    ) -> None:
        years = load_years(schemas, raw=raw)
        # The environment masks requests itself, so that it can be switched on and off between episodes.
        self.engine = BatchEngine(
            years,
            1,
            raw=raw,
            mask_idle=False,
            weights=weights,
            reference=reference,
        )
        self.rows = tuple(int(rows) for rows in years.rows)
        self.has_bess = years.has_bess
        self.socket_names = years.socket_names
        self.may_discharge = self.engine.chargers.may_discharge
        self.plant = plant_of(years)

    @property
    def reference(self) -> NoControlReference:
        """No-control values that the reward divides by."""
        return self.engine.reference

    @reference.setter
    def reference(self, reference: NoControlReference) -> None:
        self.engine.reference = reference

    @property
    def raw_names(self) -> list[str]:
        """Names of CityLearn's own observations."""
        return self.engine.raw_names

    def reset(self, year: int, start: int, steps: int) -> None:
        """Go to a window of a year."""
        self.engine.reset(ONLY, np.array([year]), np.array([start]))
        self.engine.hour = None

    def observe(self) -> NDArray[np.float32]:
        """The observation of the present hour."""
        return self.engine.observe()[0].copy()

    def situation(self) -> Situation:
        """The present hour, with a leading axis of one; arrays are the engine's own."""
        return engine_situation(self.engine)

    def idle(self) -> NDArray[np.bool_]:
        """Sockets without a vehicle that has room, shape (sockets,)."""
        return np.asarray(~self.engine.ready[0])

    def step(self, request: NDArray[np.float64]) -> float:
        """Simulate the present hour with these actions; returns its reward."""
        return float(self.engine.step(request[None]).reward[0])

    def reward_components(self) -> dict[str, float]:
        """The last hour's reward by objective."""
        assert self.engine.hour is not None
        return dict(zip(OBJECTIVES, self.engine.hour.components[0].tolist(), strict=True))

    def flows(self) -> dict[str, Any]:
        """Energy flows of the last hour."""
        return {name: values[0].item() for name, values in hourly_flows(self.engine).items()}

    def end_soc(self) -> NDArray[np.float32]:
        """States of charge at the end of the hour just simulated, shape (sockets,)."""
        assert self.engine.hour is not None
        return self.engine.hour.sockets_soc[0].copy()

    def bess_stored_kwh(self) -> float:
        """Energy in the BESS at the start of the window, or at the end of the hour just simulated."""
        engine = self.engine
        return float((engine.bess_stored_kwh if engine.hour is None else engine.bess_end_kwh)[0])
