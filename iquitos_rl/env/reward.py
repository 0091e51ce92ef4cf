"""The multi-objective reward as a CityLearn reward function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from citylearn.reward_function import RewardFunction

from iquitos_rl.config.reward import OBJECTIVES, RewardWeights
from iquitos_rl.config.site import GASOLINE_KG_PER_KWH
from iquitos_rl.objectives import (
    FlowIncrements,
    NoControlReference,
    objective_increments,
    peak_rise_kw,
    satisfaction,
    step_reward,
    unserved_energy_kwh,
)

if TYPE_CHECKING:
    from citylearn.citylearn import CityLearnEnv

__all__ = ["MultiObjectiveReward", "RewardWeights", "StepOutcome"]


@dataclass(frozen=True)
class StepOutcome:
    """What the last hour contributed.

    Attributes:
        reward: sum of the components.
        components: weighted, normalised, negative: shape (5,) in the order of `OBJECTIVES`.
        increments: of the objectives, in their own units, shape (5,).
        unserved_kwh: energy that the vehicles which departed lacked.
        shortfall: sum over departures of (1 - satisfaction).
        departures: number of vehicles that departed.
        storage_loss_kwh: losses of the BESS and of vehicle-to-grid sockets.
        day_peak_kw: highest import of the day so far, this hour included.
    """

    reward: float
    components: np.ndarray
    increments: np.ndarray
    unserved_kwh: float
    shortfall: float
    departures: int
    storage_loss_kwh: float
    day_peak_kw: float


class MultiObjectiveReward(RewardFunction):
    """Minus the weighted sum of five objectives' increments, each as a multiple of no control's mean.

    CO2 (grid import, and unserved energy driven on gasoline), solar (export and storage losses), cost, EV
    satisfaction (1 - satisfaction of each departure) and grid stability (rise of the day's running import
    peak). A no-control hour averages -1; the best an hour can do is about 0. `iquitos_rl.objectives` holds
    the formulas. Works in any one-building ``CityLearnEnv`` with a central agent: it reads only the
    observations that CityLearn hands to a reward function, except for vehicle-to-grid sockets, see `bind`.

    A vehicle departs at the end of the hour in which its departure countdown reads 1.

    Args:
        env_metadata: set by CityLearn.
        weights: `RewardWeights`, or a mapping of them (as a schema's ``attributes`` would give).
        reference: `NoControlReference`, or its JSON form.
        unserved_kg_per_kwh: CO2 of a kWh that a vehicle drives on gasoline.

    Raises:
        ValueError: no reference, or weights that do not sum to 1.
    """

    # CityLearn then assembles these observations only, instead of several hundred, in every step.
    required_observation_names = (
        "hour",
        "net_electricity_consumption",
        "electricity_pricing",
        "carbon_intensity",
        "electrical_storage_soc",
        "electrical_storage_electricity_consumption",
        "electric_vehicles_chargers_dict",
    )

    def __init__(
        self,
        env_metadata: Mapping[str, Any] | None = None,
        *,
        weights: RewardWeights | Mapping[str, float] | None = None,
        reference: NoControlReference | Mapping[str, object] | None = None,
        unserved_kg_per_kwh: float = GASOLINE_KG_PER_KWH,
        **kwargs: Any,
    ) -> None:
        super().__init__(env_metadata, **kwargs)
        if reference is None:
            raise ValueError("the reward needs a no-control reference to divide by")
        if not isinstance(weights, RewardWeights):
            weights = RewardWeights(**(weights or {}))
        self.weights = weights
        self.reference = (
            reference
            if isinstance(reference, NoControlReference)
            else NoControlReference.from_json(reference)
        )
        self.unserved_kg_per_kwh = unserved_kg_per_kwh
        self.last: StepOutcome | None = None
        self._env: CityLearnEnv | None = None
        self._day_peak_kw = 0.0
        self._bess_kwh: float | None = None

    def bind(self, env: CityLearnEnv) -> None:
        """Let the reward read the sockets' energy from ``env``, which vehicle-to-grid losses need."""
        self._env = env

    def reset(self) -> None:
        """Start an episode: no peak yet, the BESS at its initial state."""
        self._day_peak_kw = 0.0
        self._bess_kwh = None
        self.last = None

    def _bess(self) -> tuple[float, float]:
        """Capacity (kWh) and initial energy (kWh) of the BESS; zeros without one."""
        (building,) = self.env_metadata["buildings"]
        storage = building.get("electrical_storage") or {}
        capacity = float(storage.get("capacity", 0.0) or 0.0)
        floor = 1.0 - float(storage.get("depth_of_discharge", 1.0))
        return capacity, max(float(storage.get("initial_soc", 0.0) or 0.0), floor) * capacity

    def calculate(self, observations: Sequence[Mapping[str, Any]]) -> list[float]:
        """Reward of the hour that has just been simulated; `last` keeps its parts."""
        (hour,) = observations
        if int(hour["hour"]) == 1:  # CityLearn's hours are 1-24: a new day
            self._day_peak_kw = 0.0
        net = float(hour["net_electricity_consumption"])
        imported = max(0.0, net)
        rise = float(peak_rise_kw(imported, self._day_peak_kw))
        self._day_peak_kw += rise
        chargers: Mapping[str, Mapping[str, Any]] = hour["electric_vehicles_chargers_dict"]
        leaving = [c for c in chargers.values() if c["connected"] and c["hours_until_departure"] == 1.0]
        soc = np.array([c["battery_soc"] for c in leaving], float)
        required = np.array([c["required_soc"] for c in leaving], float)
        capacity = np.array([c["battery_capacity"] for c in leaving], float)
        unserved = float(unserved_energy_kwh(soc, required, capacity).sum())
        shortfall = float((1.0 - satisfaction(soc, required)).sum())
        losses = self._bess_loss_kwh(hour) + self._v2g_loss_kwh(chargers)
        increments = objective_increments(
            FlowIncrements(
                grid_import_kwh=imported,
                grid_export_kwh=max(0.0, -net),
                storage_loss_kwh=losses,
                unserved_kwh=unserved,
                shortfall=shortfall,
                peak_rise_kw=rise,
                carbon_intensity_kg_per_kwh=float(hour["carbon_intensity"]),
                price_usd_per_kwh=float(hour["electricity_pricing"]),
                unserved_kg_per_kwh=self.unserved_kg_per_kwh,
            )
        )
        components = step_reward(increments, self.reference, self.weights)
        self.last = StepOutcome(
            reward=float(components.sum()),
            components=components,
            increments=increments,
            unserved_kwh=unserved,
            shortfall=shortfall,
            departures=len(leaving),
            storage_loss_kwh=losses,
            day_peak_kw=self._day_peak_kw,
        )
        return [self.last.reward]

    def _bess_loss_kwh(self, hour: Mapping[str, Any]) -> float:
        capacity, initial_kwh = self._bess()
        if capacity <= 0:
            return 0.0
        before = initial_kwh if self._bess_kwh is None else self._bess_kwh
        self._bess_kwh = float(hour["electrical_storage_soc"]) * capacity
        return float(hour["electrical_storage_electricity_consumption"]) - (self._bess_kwh - before)

    def _v2g_loss_kwh(self, chargers: Mapping[str, Mapping[str, Any]]) -> float:
        """Losses at sockets that may discharge: what they took less what their vehicles hold more of."""
        if not any(c["max_discharging_power"] > 0 for c in chargers.values()):
            return 0.0
        if self._env is None:
            raise RuntimeError(
                "vehicle-to-grid sockets: call reward_function.bind(env) before the first step"
            )
        loss = 0.0
        (building,) = self._env.buildings
        t = self._env.time_step
        for charger in building.electric_vehicle_chargers:
            vehicle = charger.connected_electric_vehicle
            if charger.max_discharging_power <= 0 or vehicle is None:
                continue
            battery = vehicle.battery
            balance = float(battery.energy_balance[t])
            root = float(battery.round_trip_efficiency)  # CityLearn's name for the one-way efficiency
            held = balance * root if balance >= 0 else balance / root
            loss += float(charger.electricity_consumption[t]) - held
        return loss

    def component_dict(self) -> dict[str, float]:
        """The last hour's reward by objective."""
        if self.last is None:
            return dict.fromkeys(OBJECTIVES, 0.0)
        return {name: float(value) for name, value in zip(OBJECTIVES, self.last.components, strict=True)}
