"""What an environment needs of an engine: one site, stepped hour by hour."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.situation import Plant, Situation
from iquitos_rl.objectives import NoControlReference

__all__ = ["Simulator"]


class Simulator(Protocol):
    """A site's years, simulated one hour at a time.

    Attributes:
        rows: number of rows of each year.
        has_bess: whether action 0 is the BESS.
        socket_names: in the order of the action.
        may_discharge: which sockets can give power back, shape (sockets,).
        plant: what does not change from hour to hour.
    """

    rows: tuple[int, ...]
    has_bess: bool
    socket_names: tuple[str, ...]
    may_discharge: NDArray[np.bool_]
    plant: Plant

    @property
    def reference(self) -> NoControlReference:
        """No-control values that the reward divides by."""

    @reference.setter
    def reference(self, reference: NoControlReference) -> None: ...

    @property
    def raw_names(self) -> list[str]:
        """Names of CityLearn's own observations; only if they were asked for."""

    def reset(self, year: int, start: int, steps: int) -> None:
        """Go to a window of a year."""

    def observe(self) -> NDArray[np.float32]:
        """The observation of the present hour."""

    def situation(self) -> Situation:
        """The present hour, as of the last `observe`, with a leading axis of one; overwritten."""

    def idle(self) -> NDArray[np.bool_]:
        """Sockets without a vehicle that has room, as of the last `observe`, shape (sockets,)."""

    def step(self, request: NDArray[np.float64]) -> float:
        """Simulate the present hour with these actions; returns its reward."""

    def reward_components(self) -> dict[str, float]:
        """The last hour's reward by objective."""

    def flows(self) -> dict[str, Any]:
        """Energy flows of the last hour: the keys of the environment's ``info``."""

    def end_soc(self) -> NDArray[np.floating[Any]]:
        """States of charge at the end of the hour just simulated, 0 without a vehicle; shape (sockets,)."""

    def bess_stored_kwh(self) -> float:
        """Energy in the BESS at the start of the window, or at the end of the hour just simulated."""
