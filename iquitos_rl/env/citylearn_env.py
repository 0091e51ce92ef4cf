"""The reference environment: one charging site simulated by CityLearn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.env.citylearn_site import CityLearnSite
from iquitos_rl.env.no_control import (
    rollout_reference,
    stored_reference,
    unit_reference,
    unserved_factor,
)
from iquitos_rl.env.observation import FeatureLayout, feature_vector, idle_sockets
from iquitos_rl.objectives import NoControlReference

__all__ = ["EVChargingEnv", "Observation", "RandomStart"]

Observation = Literal["features", "raw"]
RandomStart = Literal["day", "hour"] | None

HOURS_PER_DAY = 24


class EVChargingEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """An EV charging site with PV, a stationary battery (BESS) and one feeder for all sockets.

    ## Description

    Vehicles come to sockets, stay some hours and want to leave with a required state of charge. The feeder
    cannot carry all sockets at once; PV is free, import is priced and causes CO2. A controller sets, every
    hour, the power of each socket and of the BESS. The numbers are CityLearn's (3.0.2); a step is one hour.

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
        schema: path of a CityLearn schema, or several (years of one site); years are loaded when first used.
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
        observation: Observation = "features",
        mask_idle: bool = True,
        episode_steps: int | None = None,
        random_start: RandomStart = None,
        start_step: int = 0,
        weights: RewardWeights | Mapping[str, float] | None = None,
        reference: NoControlReference | Mapping[str, object] | None = None,
        seed_stream: int = 0,
    ) -> None:
        if observation not in ("features", "raw"):
            raise ValueError(f"observation {observation!r}: expected 'features' or 'raw'")
        if random_start not in ("day", "hour", None):
            raise ValueError(f"random_start {random_start!r}: expected 'day', 'hour' or None")
        paths = [schema] if isinstance(schema, str | Path) else list(schema)
        if not paths:
            raise ValueError("no schema given")
        self.schemas = [Path(path) for path in paths]
        for path in self.schemas:
            if not path.is_file():
                in_dataset = path.parent.name.startswith("year_")
                where = f" --out {path.absolute().parents[2]}" if in_dataset else ""
                raise FileNotFoundError(
                    f"no CityLearn schema at {path}; make one with: iquitos-rl dataset build{where}"
                )
        self.observation_kind = observation
        self.mask_idle = mask_idle
        self.random_start = random_start
        self._weights = weights if isinstance(weights, RewardWeights) else RewardWeights(**(weights or {}))
        self._seed_stream = seed_stream
        self._sites: dict[int, CityLearnSite] = {}
        self._site = self._load(0, unit_reference())
        rows = self._site.rows
        self.episode_steps = rows - 1 - start_step if episode_steps is None else episode_steps
        self._start_step = start_step
        if not 1 <= self.episode_steps <= rows - 1 - (0 if random_start else start_step):
            raise ValueError(
                f"episode_steps {episode_steps} from start_step {start_step}: the data has {rows - 1} steps"
            )
        if reference is None:
            reference = NoControlReference.mean([self._year_reference(year) for year in range(len(paths))])
        elif not isinstance(reference, NoControlReference):
            reference = NoControlReference.from_json(reference)
        self.reference = reference
        for site in self._sites.values():
            site.reward.reference = reference
        self.layout = FeatureLayout(self._site.socket_names)
        self._bounds = self.layout.bounds
        self._steps = 0
        self._make_spaces()

    def _load(self, year: int, reference: NoControlReference) -> CityLearnSite:
        if year not in self._sites:
            schema = self.schemas[year]
            reward = {
                "weights": self._weights,
                "reference": reference,
                "unserved_kg_per_kwh": unserved_factor(schema),
            }
            site = CityLearnSite(schema, reward, raw=self.observation_kind == "raw")
            if self._sites and site.socket_names != self._site.socket_names:
                raise ValueError(f"{schema}: other sockets than {self.schemas[0]}")
            self._sites[year] = site
        return self._sites[year]

    def _year_reference(self, year: int) -> NoControlReference:
        stored = stored_reference(self.schemas[year])
        if stored is not None:
            return stored
        site = self._load(year, unit_reference())
        return rollout_reference(site, 0, site.rows - 1)

    def _make_spaces(self) -> None:
        site = self._site
        socket_low = np.where(site.v2g, -1.0, 0.0)
        bess = [-1.0] if site.has_bess else []
        low = np.concatenate([bess, socket_low]).astype(np.float32)
        self.action_space = spaces.Box(low, np.ones_like(low), dtype=np.float32)
        self.action_names = (["bess"] if site.has_bess else []) + list(site.socket_names)
        if self.observation_kind == "raw":
            self.observation_names = site.raw_names
            size = len(self.observation_names)
            self.observation_space = spaces.Box(-np.inf, np.inf, (size,), dtype=np.float32)
        else:
            self.observation_names = self.layout.names
            self.observation_space = spaces.Box(*self._bounds, dtype=np.float32)

    @property
    def site(self) -> CityLearnSite:
        """The CityLearn district of the present year."""
        return self._site

    @property
    def observation_layout(self) -> dict[str, object]:
        """Names of what the observation holds, in its order, as plain values."""
        if self.observation_kind == "raw":
            return {"names": list(self.observation_names)}
        return self.layout.to_json()

    @property
    def has_bess(self) -> bool:
        """Whether action 0 is the BESS."""
        return self._site.has_bess

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
        if seed is not None and self._seed_stream:
            self.np_random = np.random.default_rng([seed, self._seed_stream])
        options = options or {}
        year = int(self.np_random.integers(len(self.schemas)))
        year = int(options.get("year", year))
        if not 0 <= year < len(self.schemas):
            raise ValueError(f"year {year}: there are {len(self.schemas)}")
        start = int(options.get("start_step", self._choose_start()))
        self._site = self._load(year, self.reference)
        if not 0 <= start <= self._site.rows - 1 - self.episode_steps:
            raise ValueError(
                f"start_step {start} leaves no room for {self.episode_steps} of {self._site.rows - 1} steps"
            )
        self._site.reset(start, self.episode_steps)
        self._steps = 0
        self._observe()
        stored = self._site.bess_stored_kwh(0)
        return self._observation, {"year": year, "start_step": start, "bess_stored_kwh": stored}

    def _choose_start(self) -> int:
        if self.random_start is None:
            return self._start_step
        latest = self._site.rows - 1 - self.episode_steps
        if self.random_start == "hour":
            return int(self.np_random.integers(latest + 1))
        return int(self.np_random.integers(latest // HOURS_PER_DAY + 1)) * HOURS_PER_DAY

    def _observe(self) -> None:
        self._sockets = self._site.socket_state()
        if self.observation_kind == "raw":
            self._observation = self._site.raw_observation
        else:
            self._observation = feature_vector(
                self._site.site_state(), self._sockets, self._site.scales, self.layout, self._bounds
            )

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Simulate one hour. Raises ValueError for an action of the wrong length or with a NaN in it."""
        site = self._site
        request = np.array(action, dtype=np.float64)  # a copy: masking must not change the caller's array
        if request.shape != self.action_space.shape:
            raise ValueError(f"action of shape {request.shape}, expected {self.action_space.shape}")
        if not np.isfinite(request).all():
            raise ValueError("action with a value that is not finite")
        np.clip(request, self.action_space.low, self.action_space.high, out=request)
        if self.mask_idle:
            request[int(site.has_bess) :][idle_sockets(self._sockets)] = 0.0
        reward = site.step(request)
        self._steps += 1
        terminated = site.start + self._steps == site.rows - 1
        truncated = self._steps == self.episode_steps and not terminated
        info = site.flows()
        info["reward_components"] = site.reward.component_dict()
        self._observe()
        return self._observation, reward, terminated, truncated, info
