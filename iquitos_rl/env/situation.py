"""What a controller may know: the plant that does not change, and the present hour of one or many sites.

Both engines describe them alike, in kW, kWh and shares, so that a rule is written once and runs on either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.env.observation import SiteState, SocketState
from iquitos_rl.objectives import NoControlReference

__all__ = ["BessPlant", "Episode", "Plant", "Situation"]

Float = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class BessPlant:
    """The stationary battery.

    Attributes:
        capacity_kwh: when new.
        nominal_kw: largest power, either way.
        floor_soc: lowest state of charge.
        one_way_efficiency: of charging, and of discharging: the square root of the round trip's, at full
            power.
    """

    capacity_kwh: float
    nominal_kw: float
    floor_soc: float
    one_way_efficiency: float

    @property
    def usable_kwh(self) -> float:
        """What can be stored above the floor."""
        return self.capacity_kwh * (1.0 - self.floor_soc)


@dataclass(frozen=True)
class Plant:
    """What does not change from hour to hour.

    Attributes:
        socket_names: in the order of the action.
        rated_kw: largest charging power of each socket, shape (sockets,).
        charger_efficiency: of each socket at that power, shape (sockets,).
        may_discharge: which sockets can give power back, shape (sockets,).
        feeder_limit_kw: of all sockets together; infinite without a limit.
        bess: None without one; then the action has sockets only.
    """

    socket_names: tuple[str, ...]
    rated_kw: NDArray[np.float64]
    charger_efficiency: NDArray[np.float64]
    may_discharge: NDArray[np.bool_]
    feeder_limit_kw: float
    bess: BessPlant | None

    @property
    def action_size(self) -> int:
        """Length of an action: the BESS first, if any, then the sockets."""
        return len(self.socket_names) + (self.bess is not None)


@dataclass(frozen=True)
class Situation:
    """The present hour of some sites of one plant, before they act.

    Attributes:
        site: arrays of shape (sites,), those of later hours (sites, 1 + later hours).
        sockets: arrays of shape (sites, sockets).
        observe: gives the environment's observation, shape (sites, observations); made only where it is
            wanted.
    """

    site: SiteState
    sockets: SocketState
    observe: Callable[[], NDArray[np.float32]]

    @property
    def count(self) -> int:
        """Number of sites."""
        return len(self.sockets.occupied)

    @property
    def observation(self) -> NDArray[np.float32]:
        """The environment's observation, shape (sites, observations)."""
        return self.observe()


@dataclass(frozen=True)
class Episode:
    """What a controller is told before an episode.

    Attributes:
        plant: the site.
        schema: CityLearn schema of the year. Only a controller with perfect foresight reads it.
        start_step, steps: the hours of the year that the episode covers.
        action_space: bounds of one site's action.
        observation_space: bounds of one site's observation.
        observation_layout: names of what the observation holds, in its order.
        weights: of the objectives.
        reference: no control's values, for a score of the episode.
        unserved_kg_per_kwh: CO2 of a kWh that a vehicle drives on gasoline instead.
        training_schemas: years gone by of the same site, to learn from; may be empty.
    """

    plant: Plant
    schema: Path
    start_step: int
    steps: int
    action_space: spaces.Box
    observation_space: spaces.Box
    observation_layout: dict[str, object]
    weights: RewardWeights
    reference: NoControlReference
    unserved_kg_per_kwh: float
    training_schemas: tuple[Path, ...] = ()
