"""One charging site as a Gymnasium environment, simulated by CityLearn or by the batch engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.config.run import Engine
from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.simulator import BatchSimulator
from iquitos_rl.env.citylearn_site import CityLearnSite
from iquitos_rl.env.citylearn_years import CityLearnYears
from iquitos_rl.env.episodes import (
    OBSERVATIONS,
    WINDOW_OPTIONS,
    Observation,
    RandomStart,
    Windows,
    generator,
    schema_paths,
)
from iquitos_rl.env.no_control import mean_reference, unit_reference, unserved_factor
from iquitos_rl.env.observation import FeatureLayout
from iquitos_rl.env.simulator import Simulator
from iquitos_rl.env.situation import Episode, Plant, Situation
from iquitos_rl.env.spaces import action_space, observation_space
from iquitos_rl.objectives import NoControlReference

__all__ = ["ENGINES", "EVChargingEnv"]

ENGINES = get_args(Engine)


class EVChargingEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """An EV charging site with PV, a stationary battery (BESS) and one feeder for all sockets.

    ## Description

    Vehicles come to sockets, stay some hours and want to leave with a required state of charge. The feeder
    cannot carry all sockets at once; PV is free, import is priced and causes CO2. A controller sets, every
    hour, the power of each socket and of the BESS. The numbers are CityLearn's (3.0.2); a step is one hour.
    ``engine="batch"`` computes the same numbers some hundred times faster (`BatchVectorEnv`: thousands of
    times), and refuses a schema with features that it does not model.

    ## Action space

    ``Box(sockets + 1)``, or ``Box(sockets)`` on a site without a BESS. Iquitos: 129.

    | index | action | unit | min | max |
    |---|---|---|---|---|
    | 0 | BESS power, + charges | share of nominal power | -1 | 1 |
    | 1 ... sockets | power request of a socket | share of rated power | 0 (-1 if it may discharge) | 1 |

    The names are in `action_names`. Requests above the feeder's limit are scaled down together, each by the
    same factor; the BESS is outside that limit. With ``mask_idle`` the requests of idle sockets (no
    vehicle, or one at SOC >= 1 - 1e-6) are set to 0 first; without it they take their share of the feeder
    and waste it.

    ## Observation space

    ``observation="features"``: ``Box(22 + 7 sockets)``, float32, about [-1, 1], clipped to its bounds.
    Iquitos: 918. The layout by name is `layout` (`FeatureLayout`): the site's features, then one block per
    socket.

    | index | feature | before scaling | min | max |
    |---|---|---|---|---|
    | 0, 1 | hour_sin, hour_cos | hour of day | -1 | 1 |
    | 2, 3 | year_sin, year_cos | hour of year | -1 | 1 |
    | 4, 5 | week_sin, week_cos | day of week, Monday 0 | -1 | 1 |
    | 6 ... 9 | pv, pv_next_1 ... 3 | PV of this hour and the next, per nominal power | 0 | 1.2 |
    | 10 | load | non-shiftable load / twice its mean | 0 | 2 |
    | 11 ... 14 | price, price_next_1 ... 3 | USD/kWh / highest of the year | 0 | 1 |
    | 15 | carbon_intensity | kg/kWh / highest of the year | 0 | 1 |
    | 16 | bess_soc | state of charge | 0 | 1 |
    | 17 | previous_net_consumption | kWh of the hour before / site scale | -2 | 2 |
    | 18 | day_peak | highest import (kW) of the day so far / site scale | 0 | 2 |
    | 19 | feeder_share | feeder limit / rated power of sockets not idle, at most 1 | 0 | 1 |
    | 20 | occupancy | share of sockets with a vehicle | 0 | 1 |
    | 21 | energy_needed | kWh all vehicles need / 4 hours of the feeder | 0 | 2 |
    | 22 + 7 k | occupied | of socket k | 0 | 1 |
    | 23 + 7 k | soc | state of charge of its vehicle | 0 | 1 |
    | 24 + 7 k | soc_gap | required SOC less SOC, at least 0 | 0 | 1 |
    | 25 + 7 k | energy_needed | kWh at the socket to the required SOC / largest battery | 0 | 2 |
    | 26 + 7 k | hours_to_departure | hours left, this one included / 12 | 0 | 1 |
    | 27 + 7 k | laxity | hours left less hours of full power needed / 6 | -1 | 1 |
    | 28 + 7 k | rated_power | kW / largest rated power | 0 | 1 |

    ``observation="raw"``: CityLearn's own flat vector of its central agent: same names (`observation_names`),
    same order, same values, unbounded here since CityLearn's own bounds are estimates. Mind that it shows
    states of charge as they were one hour ago.

    ## Reward

    Minus the weighted sum of five objectives' increments, each divided by no control's mean per step: see
    `MultiObjectiveReward`. A no-control step averages -1 over a year. Its best is 0 (an hour with no import,
    no export, no losses and no departure short of energy); a busy evening hour can reach about -10.

    ``info`` holds, after a step, ``reward_components`` (five, they sum to the reward), and the hour's flows:
    ``grid_import_kwh``, ``grid_export_kwh``, ``load_kwh``, ``pv_generation_kwh``, ``ev_draw_kwh``,
    ``ev_discharge_kwh``, ``ev_delivered_kwh`` (into vehicle batteries), ``bess_charge_kwh``,
    ``bess_discharge_kwh``, ``bess_stored_kwh``, ``storage_losses_kwh``, ``unserved_energy_kwh``,
    ``satisfaction_shortfall``, ``ev_departures``, ``day_peak_kw``, ``price_usd_per_kwh``,
    ``carbon_intensity_kg_per_kwh``, ``hour_of_year``; after a reset ``year``, ``start_step`` and
    ``bess_stored_kwh``.

    ## Starting state

    Row ``start_step`` of the data, or a random day (or hour) of a random one of the given years. The BESS
    starts at its initial SOC. A vehicle met in the middle of its session (only with ``random_start="hour"``
    on the reference site) has its battery's initial SOC.

    ## Episode end

    Truncated after ``episode_steps`` steps; terminated only at the end of the data (8,760 rows give 8,759
    steps).

    ## Arguments

    Args:
        schema: path of a CityLearn schema, or several (years of one site).
        engine: ``"batch"`` or ``"citylearn"``, the reference.
        observation: ``"features"`` or ``"raw"``.
        mask_idle: drop the requests of idle sockets before the feeder is shared.
        episode_steps: length of an episode; to the end of the data if None.
        random_start: ``"day"``, ``"hour"``, or None for ``start_step``.
        start_step: first row, without a random start.
        weights: of the objectives; `RewardWeights` or a mapping; `RewardWeights`' defaults if None.
        reference: no-control values to divide by, or their JSON form; those stored beside the
            schemas (mean over them) if None.
        seed_stream: environments with equal seeds and different streams choose different windows.

    Raises:
        FileNotFoundError: a schema that is not there.
        ValueError: arguments that contradict each other or the data.

    ## Version history

    * v0: first release.
    """

    action_space: spaces.Box
    observation_space: spaces.Box
    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  Gymnasium's own declaration

    def __init__(
        self,
        schema: str | Path | Sequence[str | Path],
        *,
        engine: Engine = "batch",
        observation: Observation = "features",
        mask_idle: bool = True,
        episode_steps: int | None = None,
        random_start: RandomStart = None,
        start_step: int = 0,
        weights: RewardWeights | Mapping[str, float] | None = None,
        reference: NoControlReference | Mapping[str, object] | None = None,
        seed_stream: int = 0,
    ) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine {engine!r}: expected {' or '.join(map(repr, ENGINES))}")
        if observation not in OBSERVATIONS:
            raise ValueError(f"observation {observation!r}: expected 'features' or 'raw'")
        self.schemas = schema_paths(schema)
        self.observation_kind = observation
        self.mask_idle = mask_idle
        self.weights = weights if isinstance(weights, RewardWeights) else RewardWeights(**(weights or {}))
        self.simulator: Simulator = (BatchSimulator if engine == "batch" else CityLearnYears)(
            self.schemas,
            raw=observation == "raw",
            weights=self.weights,
            reference=unit_reference(),
        )
        self._windows = Windows(self.simulator.rows, episode_steps, random_start, start_step)
        self.episode_steps = self._windows.steps
        self._seed_stream = seed_stream
        if reference is None:
            reference = mean_reference(self.schemas, lambda: self.simulator)
        elif not isinstance(reference, NoControlReference):
            reference = NoControlReference.from_json(reference)
        self.simulator.reference = reference
        self._steps = 0
        self._end = 0
        self._window = (0, start_step)
        self.layout = FeatureLayout(self.simulator.socket_names)
        self.action_space = action_space(self.simulator)
        self.action_names = (["bess"] if self.has_bess else []) + list(self.simulator.socket_names)
        self.observation_names = self.simulator.raw_names if observation == "raw" else self.layout.names
        self.observation_space = observation_space(self.layout, self.observation_names, observation)

    @property
    def reference(self) -> NoControlReference:
        """No-control values that the reward divides by."""
        return self.simulator.reference

    @property
    def site(self) -> CityLearnSite:
        """The CityLearn district of the present year. Raises AttributeError on the batch engine."""
        if not isinstance(self.simulator, CityLearnYears):
            raise AttributeError("the batch engine has no CityLearn district")
        return self.simulator.site

    @property
    def engine(self) -> BatchEngine:
        """The batch engine. Raises AttributeError on CityLearn."""
        if not isinstance(self.simulator, BatchSimulator):
            raise AttributeError("this environment runs on CityLearn")
        return self.simulator.engine

    @property
    def observation_layout(self) -> dict[str, object]:
        """Names of what the observation holds, in its order, as plain values."""
        if self.observation_kind == "raw":
            return {"names": list(self.observation_names)}
        return self.layout.to_json()

    @property
    def plant(self) -> Plant:
        """What does not change from hour to hour."""
        return self.simulator.plant

    @property
    def episode(self) -> Episode:
        """The present episode, for a controller's ``prepare``; as of the last reset."""
        year, start = self._window
        return Episode(
            plant=self.plant,
            schema=self.schemas[year],
            start_step=start,
            steps=self.episode_steps,
            action_space=self.action_space,
            observation_space=self.observation_space,
            observation_layout=self.observation_layout,
            weights=self.weights,
            reference=self.reference,
            unserved_kg_per_kwh=unserved_factor(self.schemas[year]),
        )

    def situation(self) -> Situation:
        """The present hour as rules see it, with a leading axis of one; valid until the next step."""
        return self.simulator.situation()

    @property
    def has_bess(self) -> bool:
        """Whether action 0 is the BESS."""
        return self.simulator.has_bess

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of the choice of years and windows.
            options: ``year`` (number of the schema) and ``start_step`` override that choice.

        Raises:
            ValueError: options outside the data.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.np_random = generator(seed, self._seed_stream)
        options = options or {}
        unknown = options.keys() - set(WINDOW_OPTIONS)
        if unknown:
            raise ValueError(f"options {', '.join(sorted(unknown))}: expected {' or '.join(WINDOW_OPTIONS)}")
        year, start = self._windows.choose(self.np_random, options.get("year"), options.get("start_step"))
        self.simulator.reset(year, start, self.episode_steps)
        self._window = (year, start)
        self._steps = 0
        # Steps from the window's start to the end of the data.
        self._end = self.simulator.rows[year] - 1 - start
        stored = self.simulator.bess_stored_kwh()
        return self.simulator.observe(), {"year": year, "start_step": start, "bess_stored_kwh": stored}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Simulate one hour.

        Raises:
            ValueError: an action of the wrong length or with a NaN in it.
            RuntimeError: no episode is running.
        """
        if self._steps >= min(self.episode_steps, self._end):
            raise RuntimeError("no episode is running: call reset() first")
        request = np.array(action, dtype=np.float64)  # a copy: masking must not change the caller's array
        if request.shape != self.action_space.shape:
            raise ValueError(f"action of shape {request.shape}, expected {self.action_space.shape}")
        if not np.isfinite(request).all():
            raise ValueError("action with a value that is not finite")
        np.clip(request, self.action_space.low, self.action_space.high, out=request)
        if self.mask_idle:
            request[int(self.has_bess) :][self.simulator.idle()] = 0.0
        reward = self.simulator.step(request)
        self._steps += 1
        terminated = self._steps == self._end
        truncated = self._steps == self.episode_steps and not terminated
        info = self.simulator.flows()
        info["reward_components"] = self.simulator.reward_components()
        return self.simulator.observe(), reward, terminated, truncated, info
