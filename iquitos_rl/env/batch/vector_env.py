"""Many environments of one site as one Gymnasium vector environment, stepped by the batch engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.flows import hourly_flows
from iquitos_rl.env.batch.simulator import BatchSimulator
from iquitos_rl.env.batch.situation import EngineState, engine_state, restore_state
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.env.episodes import (
    OBSERVATIONS,
    WINDOW_OPTIONS,
    Observation,
    RandomStart,
    Windows,
    generator,
    schema_paths,
)
from iquitos_rl.env.no_control import mean_reference, unit_reference
from iquitos_rl.env.observation import FeatureLayout
from iquitos_rl.env.spaces import action_space, observation_space
from iquitos_rl.objectives import OBJECTIVES, NoControlReference

__all__ = ["BatchVectorEnv", "mode_of"]

AUTORESET_MODES = {mode.name.lower(): mode for mode in AutoresetMode}
Array = NDArray[Any]
Step = tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class BatchVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]):
    """``num_envs`` environments of one site in lockstep: `EVChargingEnv`, but for all at once.

    Environment i of a vector with seed s goes through the same windows, and with the same actions has the
    same trajectory, as environment 0 of a vector with seed s + i, and as an `EVChargingEnv` with that seed.

    What happens at the end of an episode is ``autoreset_mode``, as Gymnasium defines it:

    - ``next_step`` (RLlib's and Gymnasium's default): the step returns the last observation of the episode;
      the next one ignores this environment's action and returns the first observation of a new episode, with
      reward 0.
    - ``same_step``: the step returns the first observation of a new episode; ``infos["final_obs"]`` holds the
      last one of each episode that ended, and ``infos["final_info"]`` (with ``flows``) its infos.
    - ``disabled``: the caller resets, with ``reset(options={"reset_mask": mask})``.

    Args:
        schema: path of a CityLearn schema, or several years of one site.
        num_envs: how many environments.
        observation: ``"features"`` or ``"raw"``.
        mask_idle: drop the requests of idle sockets before the feeder is shared.
        episode_steps: length of an episode; to the end of the data if None.
        random_start: ``"day"``, ``"hour"``, or None for ``start_step``.
        start_step: first row, without a random start.
        weights: of the objectives; `RewardWeights`' defaults if None.
        reference: no-control values to divide by, or their JSON form; those stored beside the schemas (mean
            over them) if None.
        seed_stream: vectors with equal seeds and different streams choose different windows.
        autoreset_mode: see above.
        flows: put each hour's flows and reward components into ``infos``, as `EVChargingEnv` does.
        copy: return a new array of observations in every step, instead of one that the next step overwrites.

    Raises:
        FileNotFoundError: a schema that is not there.
        UnsupportedSchemaError: a site with features that the engine does not model.
        ValueError: arguments that contradict each other or the data.
    """

    def __init__(
        self,
        schema: str | Path | Sequence[str | Path],
        num_envs: int,
        *,
        observation: Observation = "features",
        mask_idle: bool = True,
        episode_steps: int | None = None,
        random_start: RandomStart = None,
        start_step: int = 0,
        weights: RewardWeights | Mapping[str, float] | None = None,
        reference: NoControlReference | Mapping[str, object] | None = None,
        seed_stream: int = 0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        flows: bool = False,
        copy: bool = True,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs {num_envs}: expected at least 1")
        if observation not in OBSERVATIONS:
            raise ValueError(f"observation {observation!r}: expected 'features' or 'raw'")
        self.num_envs = num_envs
        self.schemas = schema_paths(schema)
        self.observation_kind = observation
        self.autoreset_mode = mode_of(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        self.seed_stream = seed_stream
        weights = weights if isinstance(weights, RewardWeights) else RewardWeights(**(weights or {}))
        years = load_years(self.schemas, raw=observation == "raw")
        self._windows = Windows(years.rows.tolist(), episode_steps, random_start, start_step)
        self.episode_steps = self._windows.steps
        self.reference = self._find_reference(reference, weights)
        self.engine = BatchEngine(
            years,
            num_envs,
            raw=observation == "raw",
            mask_idle=mask_idle,
            weights=weights,
            reference=self.reference,
        )
        self._flows = flows
        self._copy = copy
        self.layout = FeatureLayout(years.socket_names)
        self.has_bess = years.has_bess
        self.action_names = (["bess"] if self.has_bess else []) + list(years.socket_names)
        self.observation_names = self.engine.raw_names if observation == "raw" else self.layout.names
        self.single_action_space: spaces.Box = action_space(self.engine)
        self.single_observation_space: spaces.Box = observation_space(
            self.layout, self.observation_names, observation
        )
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._low, self._high = (
            # For every environment: NumPy is faster on arrays of one shape.
            np.broadcast_to(bound, (num_envs, len(bound))).copy()
            for bound in (self.single_action_space.low, self.single_action_space.high)
        )
        self._action = np.zeros((num_envs, len(self.action_names)), np.float32)
        self._finite = np.zeros(self._action.shape, bool)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._steps = np.zeros(num_envs, np.intp)
        self._ended = np.zeros(num_envs, bool)
        self._started = False

    def _find_reference(
        self, reference: NoControlReference | Mapping[str, object] | None, weights: RewardWeights
    ) -> NoControlReference:
        if isinstance(reference, NoControlReference):
            return reference
        if reference is not None:
            return NoControlReference.from_json(reference)
        return mean_reference(
            self.schemas,
            lambda: BatchSimulator(self.schemas, raw=False, weights=weights, reference=unit_reference()),
        )

    @property
    def observation_layout(self) -> dict[str, object]:
        """Names of what the observation holds, in its order, as plain values."""
        if self.observation_kind == "raw":
            return {"names": list(self.observation_names)}
        return self.layout.to_json()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start episodes.

        Args:
            seed: environment i is seeded with ``seed`` + i, or with ``seed[i]``; None goes on with the
                generators there are.
            options: ``year`` and ``start_step`` (one for all, or one for each) override the choice of
                windows; ``reset_mask`` (bool, shape (num_envs,)) names the environments to reset, all if left
                out.

        Raises:
            ValueError: options outside the data, or of the wrong shape.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(f"reset_mask: expected {self.num_envs} flags, at least one of them set")
        unknown = options.keys() - set(WINDOW_OPTIONS)
        if unknown:
            raise ValueError(
                f"options {', '.join(sorted(unknown))}: expected {', '.join(WINDOW_OPTIONS)} or reset_mask"
            )
        for name, value in options.items():
            if np.shape(value) not in ((), (self.num_envs,)):
                raise ValueError(f"options {name}: expected one number, or {self.num_envs}")
        self._seed(seed, mask)
        infos = self._begin(np.flatnonzero(mask), options)
        return self._observation(), infos

    def _seed(self, seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_]) -> None:
        if isinstance(seed, int | np.integer):
            seeds: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None] * self.num_envs if seed is None else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
        for i in np.flatnonzero(mask).tolist():
            value = seeds[i]
            if value is not None:
                self._generators[i] = generator(value, self.seed_stream)
            elif self._generators[i] is None:
                self._generators[i] = np.random.default_rng()

    def _begin(self, environments: NDArray[np.intp], options: Mapping[str, Any]) -> dict[str, Any]:
        """Start new episodes in some environments; returns their infos."""
        years, starts = np.zeros(self.num_envs, np.intp), np.zeros(self.num_envs, np.intp)
        given = [name for name in WINDOW_OPTIONS if options.get(name) is not None]
        chosen = {name: np.broadcast_to(options[name], (self.num_envs,)) for name in given}
        for i in environments.tolist():
            random = self._generators[i]
            assert random is not None
            window = {name: int(values[i]) for name, values in chosen.items()}
            years[i], starts[i] = self._windows.choose(random, window.get("year"), window.get("start_step"))
        self.engine.reset(environments, years[environments], starts[environments])
        self._steps[environments] = 0
        self._ended[environments] = False
        self._started = self._started or None not in self._generators
        mask = np.zeros(self.num_envs, bool)
        mask[environments] = True
        stored = np.where(mask, self.engine.bess_stored_kwh, 0.0)
        return _infos({"year": years, "start_step": starts, "bess_stored_kwh": stored}, mask)

    def get_state(self) -> dict[str, Any]:
        """All that the future depends on besides actions, as arrays and plain values: `set_state` takes it.

        Raises:
            RuntimeError: an environment was never reset.
        """
        if not self._started:
            raise RuntimeError("reset every environment before asking for their state")
        engine = self.engine
        return {
            "year": engine.year.copy(),
            "row": engine.row.copy(),
            "start_row": engine.start_row.copy(),
            "steps": self._steps.copy(),
            "ended": self._ended.copy(),
            "engine": asdict(engine_state(engine)),
            "generators": [random.bit_generator.state for random in self._generators if random is not None],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from where `get_state` was called, on these schemas and with these arguments.

        The next step is the one that would have followed then, to the bit. The observation before it is not
        part of the state: whoever keeps the state keeps that too.

        Raises:
            ValueError: a state of another number of environments or sockets.
        """
        engine_at = EngineState(**state["engine"])
        if engine_at.soc.shape != self.engine.vehicles.soc.shape:
            raise ValueError(
                f"a state of (environments, sockets) {engine_at.soc.shape}, these are "
                f"{self.engine.vehicles.soc.shape}"
            )
        # One that waits for its reset may be behind its year's last hour; where it is no longer matters.
        row = np.where(state["ended"], state["start_row"], state["row"])
        self.engine.reset(np.arange(self.num_envs), state["year"], row)
        restore_state(self.engine, engine_at)
        self.engine.start_row[:] = state["start_row"]
        self._steps[:] = state["steps"]
        self._ended = state["ended"].copy()
        for i, inner in enumerate(state["generators"]):
            random = np.random.default_rng()
            random.bit_generator.state = inner
            self._generators[i] = random
        self._started = True

    def _observation(self) -> NDArray[np.float32]:
        observation = self.engine.observe()
        return observation.copy() if self._copy else observation

    def step(self, actions: NDArray[np.float32]) -> Step:
        """Simulate one hour of every environment.

        Raises:
            ValueError: actions of the wrong shape, or with a value that is not finite.
            RuntimeError: an environment was never reset; or, with ``autoreset_mode="disabled"``, not since
                its episode ended.
        """
        action = self._action
        actions = np.asarray(actions)
        if actions.shape != action.shape:
            raise ValueError(f"actions of shape {actions.shape}, expected {action.shape}")
        if not np.isfinite(actions, out=self._finite).all():
            raise ValueError("actions with a value that is not finite")
        np.maximum(actions, self._low, out=action, casting="same_kind")
        np.minimum(action, self._high, out=action)
        if not self._started:
            raise RuntimeError("reset every environment before the first step")
        (waiting,) = self._ended.nonzero()
        if len(waiting) and self.autoreset_mode is AutoresetMode.DISABLED:
            raise RuntimeError(f"episodes have ended in environments {waiting.tolist()}: reset them first")
        # Environments that wait for their reset are stepped along, and then reset: that hour is not seen.
        hour = self.engine.step(action)
        self._steps += 1
        terminated = self.engine.at_end
        truncated = (self._steps == self.episode_steps) & ~terminated
        rewards = hour.reward
        infos = self._step_infos() if self._flows else {}
        if len(waiting):
            infos = _merged(_without(infos, waiting), self._begin(waiting, {}))
            rewards[waiting] = 0.0
            terminated[waiting] = truncated[waiting] = False
        self._ended = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._start_anew(infos)
        return self._observation(), rewards, terminated, truncated, infos

    def _step_infos(self) -> dict[str, Any]:
        hour = self.engine.hour
        assert hour is not None
        everyone = np.ones(self.num_envs, bool)
        components: dict[str, Array] = dict(zip(OBJECTIVES, hour.components.T, strict=True))
        infos: dict[str, Any] = _infos(hourly_flows(self.engine), everyone)
        infos["reward_components"] = _infos(components, everyone)
        infos["_reward_components"] = everyone
        return infos

    def _start_anew(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Begin anew where an episode has ended; its last observation and infos become ``final_...``."""
        ended = self._ended.copy()
        last = np.full(self.num_envs, None, object)
        observation = self.engine.observe()
        for i in np.flatnonzero(ended):
            last[i] = observation[i].copy()
        final: dict[str, Any] = {"final_obs": last, "_final_obs": ended}
        if infos:
            final |= {"final_info": _without(infos, np.flatnonzero(~ended)), "_final_info": ended}
        which = np.flatnonzero(ended)
        return _merged(_without(infos, which), self._begin(which, {})) | final


def mode_of(mode: AutoresetMode | str) -> AutoresetMode:
    """One of Gymnasium's modes, by its name too. Raises ValueError for a name that is none."""
    if isinstance(mode, AutoresetMode):
        return mode
    if mode not in AUTORESET_MODES:
        raise ValueError(f"autoreset_mode {mode!r}: expected one of {', '.join(AUTORESET_MODES)}")
    return AUTORESET_MODES[mode]


def _infos(values: Mapping[str, Array], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Gymnasium's form: each array with a mask of the environments that it is about."""
    return dict(values) | {f"_{name}": mask for name in values}


def _merged(infos: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Infos of some environments and of others."""
    for name in [name for name in more if not name.startswith("_")]:
        value, mask = more[name], more[f"_{name}"]
        if name in infos:
            value, mask = np.where(mask, value, infos[name]), mask | infos[f"_{name}"]
        infos[name], infos[f"_{name}"] = value, mask
    return infos


def _without(infos: Mapping[str, Any], environments: NDArray[np.intp]) -> dict[str, Any]:
    """Infos that are no longer about some environments."""
    kept: dict[str, Any] = {}
    for name, value in infos.items():
        if isinstance(value, Mapping):
            kept[name] = _without(value, environments)
        elif name.startswith("_"):
            kept[name] = value.copy()
            kept[name][environments] = False
        else:
            kept[name] = value
    return kept
