"""RLlib's env runner for vector environments, without its work for each single environment and step."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import ENV_STEP_TIMER, NUM_ENV_STEP_FAILURES_LIFETIME
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.metrics import RLMODULE_INFERENCE_TIMER, WEIGHTS_SEQ_NO

from iquitos_rl.algorithms.errors import NonFiniteActionError
from iquitos_rl.algorithms.fragment import Fragment, FragmentRows

__all__ = ["BatchedEnvRunner"]

LOGGER = logging.getLogger("ray.rllib")
SAMPLER = "sampler"
"""Component of the runner's state: where its environments and its random numbers are."""


class BatchedEnvRunner(SingleAgentEnvRunner):
    """Samples with one forward pass of the module for each step of the whole vector environment.

    In everything but `sample` it is RLlib's: weights, metrics, seeds, failures, checkpoints. With the same
    seed it takes the same actions in the same environments as `SingleAgentEnvRunner` does, and reports the
    same episodes (tested); it hands them over as one `Fragment` instead of as a list of episodes.

    Requires a vector environment in Gymnasium's next-step autoreset mode with one flat Box each for
    observations and actions, and RLlib's default connectors. Observations are not normalised here: that
    would be a filter outside of the policy, which deployment loses.

    A failing environment: as RLlib's, ``restart_failed_sub_environments`` makes all of them anew, and the
    fragment is begun again; but after more failures in a row than
    ``num_consecutive_env_runner_failures_tolerance`` the error is raised, instead of trying for ever.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        self._vector: VectorEnv[Any, Any, Any] | None = None
        super().__init__(config=config, **kwargs)
        self._begin_anew()
        self._finished: list[tuple[int, float, float]] = []
        self._steps_sampled = 0
        self._restored: dict[str, Any] | None = None
        self._incarnation = uuid.uuid4().hex

    def _begin_anew(self) -> None:
        """Forget where the environments are: they are about to be reset."""
        self._observations: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._ended = np.zeros(self.num_envs, bool)
        self._continues = False
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._returns = np.zeros(self.num_envs)
        self._began = np.full(self.num_envs, time.perf_counter())

    def make_env(self) -> None:
        """Make the vector environment, as RLlib does, and check that it is one that can be run here.

        Raises:
            ValueError: it is not.
        """
        super().make_env()
        env: Any = self.env
        # RLlib's wrapper turns the infos of each step into a list of dicts, which nobody reads here.
        self._vector = env.env if isinstance(env, DictInfoToList) else env
        vector = cast(Any, self._vector)
        mode = vector.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.NEXT_STEP:
            raise ValueError(f"autoreset mode {mode}: the batched env runner needs next-step autoreset")
        for name in ("single_observation_space", "single_action_space"):
            space = getattr(vector, name)
            if not isinstance(space, spaces.Box) or len(space.shape) != 1:
                raise ValueError(f"{name} {space}: the batched env runner needs a Box of one dimension")
        action = vector.single_action_space
        self._low, self._high = action.low, action.high
        self._bounded = bool(action.bounded_below.all() and action.bounded_above.all())

    def make_module(self) -> None:
        """Make the module, as RLlib does, for acting: it is switched to that for each step otherwise."""
        super().make_module()
        cast(Any, self.module).eval()

    def _sample(  # type: ignore[override] # a fragment does what is asked of episodes
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[Fragment]:
        """Sample at least so many real steps, or until so many episodes have ended; see RLlib's `sample`."""
        failures, noted = 0, len(self._finished)
        anew = force_reset or num_episodes is not None
        while True:
            try:
                if anew or self._needs_initial_reset:
                    self._reset()
                self._needs_initial_reset = num_episodes is not None
                fragment = self._collect(num_timesteps, num_episodes, explore, random_actions)
            except _EnvironmentFailedError as failure:
                failures += 1
                del self._finished[noted:]  # of the fragment that is begun again
                self._recreate(failure, failures)
                continue
            steps = len(fragment)
            if steps:
                self._log_env_steps(self._metrics_num_env_steps_sampled, steps)
            self._increase_sampled_metrics(steps, len(self._finished) - noted)
            return [fragment]

    def _reset(self) -> None:
        seed = self._seed if self._needs_initial_reset else None
        try:
            observations, _ = cast(Any, self._vector).reset(seed=seed)
        except Exception as error:
            raise _EnvironmentFailedError from error
        self._begin_anew()
        self._observations = np.asarray(observations, np.float32).copy()

    def _recreate(self, failure: _EnvironmentFailedError, failures: int) -> None:
        """Make the environments anew after a failure, or give up."""
        reason = failure.__cause__
        self.metrics.log_value(NUM_ENV_STEP_FAILURES_LIFETIME, 1, reduce="lifetime_sum")
        if not self.config.restart_failed_sub_environments:
            raise RuntimeError(
                f"the environment failed: {reason!r}. With "
                "fault_tolerance(restart_failed_sub_environments=True) it would be made anew"
            ) from reason
        tolerated = self.config.num_consecutive_env_runner_failures_tolerance
        if failures > tolerated:
            raise RuntimeError(
                f"the environment failed {failures} times in a row, also after it was made anew: {reason!r}"
            ) from reason
        LOGGER.warning("the environment failed (%r): made anew, %d of %d", reason, failures, tolerated)
        self.make_env()
        self._change_seed(failures)

    def _change_seed(self, failures: int = 0) -> None:
        """Let the next reset choose other windows than those that this seed began with."""
        if self._seed is not None:
            mixed = np.random.SeedSequence([self._seed, self._steps_sampled, failures])
            self._seed = int(mixed.generate_state(1)[0]) // 2

    def _collect(
        self, num_timesteps: int | None, num_episodes: int | None, explore: bool, random_actions: bool
    ) -> Fragment:
        vector = cast(Any, self._vector)
        environments = self.num_envs
        # An environment is reset now and then, which takes a row: a little more room than is asked for.
        expected = -(-num_timesteps // environments) if num_timesteps is not None else 256
        rows = FragmentRows.of(expected + 1 + expected // 8, environments, *self._sizes())
        rows.observations[0] = self._observations
        continues = self._continues
        row = steps = episodes = 0
        in_environment = in_module = 0.0
        while steps < num_timesteps if num_timesteps is not None else episodes < cast(int, num_episodes):
            if row == len(rows):
                rows = rows.grown()
            started = time.perf_counter()
            if random_actions:
                actions = to_env = vector.action_space.sample()
            else:
                actions, to_env = self._act(rows.observations[row], explore, rows.log_probs[row])
            acted = time.perf_counter()
            in_module += acted - started
            try:
                observations, rewards, terminated, truncated, _ = vector.step(to_env)
            except Exception as error:
                raise _EnvironmentFailedError from error
            in_environment += time.perf_counter() - acted
            rows.observations[row + 1] = observations
            rows.actions[row] = actions
            rows.rewards[row] = rewards
            rows.terminated[row] = terminated
            rows.truncated[row] = truncated
            real = np.logical_not(self._ended, out=rows.real[row])
            steps += self._count_step(real, rewards)
            np.logical_or(terminated, truncated, out=self._ended)
            row += 1
            if self._ended.any():
                episodes += self._note_ends(None if num_episodes is None else num_episodes - episodes)
        self._observations = rows.observations[row].copy()
        self._continues, self._restored = True, None
        self._steps_sampled += steps
        self._log_times(row, in_environment, in_module)
        remote = bool(self.worker_index)
        return Fragment(
            **rows.first(row),
            runner=self.worker_index or 0,
            continues=continues,
            sampler_state=self.sampler_state() if remote and not self.config.in_evaluation else None,
        )

    def _sizes(self) -> tuple[int, int]:
        vector = cast(Any, self._vector)
        return vector.single_observation_space.shape[0], vector.single_action_space.shape[0]

    def _act(
        self, observations: NDArray[np.float32], explore: bool, log_probs: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Actions as the policy draws them, and as the environments take them; fills in ``log_probs``."""
        tensor = torch.from_numpy(observations).to(self._device)
        with torch.no_grad():
            try:
                if explore:
                    drawn, log_prob = self._draw(tensor)
                    log_probs[:] = log_prob.cpu().numpy()
                else:
                    drawn = self._choose(tensor)
            except RuntimeError as error:
                if self._is_finite(tensor):
                    raise  # out of memory, for example
                # torch does not draw with a standard deviation that is NaN
                raise NonFiniteActionError(self.worker_index or 0) from error
        actions: NDArray[np.float32] = drawn.cpu().numpy()
        if not np.isfinite(actions).all():
            raise NonFiniteActionError(self.worker_index or 0)
        return actions, self._to_bounds(actions)

    def _is_finite(self, observations: torch.Tensor) -> bool:
        """Whether the policy's distributions are."""
        outputs = cast(Any, self.module).forward_inference({Columns.OBS: observations})
        return bool(torch.isfinite(outputs[Columns.ACTION_DIST_INPUTS]).all())

    def _draw(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        module: Any = self.module
        if hasattr(module, "sample_actions"):
            drawn: tuple[torch.Tensor, torch.Tensor] = module.sample_actions(observations)
            return drawn
        outputs = module.forward_exploration({Columns.OBS: observations})
        kind = module.get_exploration_action_dist_cls()
        distribution = kind.from_logits(outputs[Columns.ACTION_DIST_INPUTS])
        actions = distribution.sample()
        return actions, distribution.logp(actions)

    def _choose(self, observations: torch.Tensor) -> torch.Tensor:
        """The most likely actions."""
        module: Any = self.module
        outputs = module.forward_inference({Columns.OBS: observations})
        kind = module.get_inference_action_dist_cls()
        distribution = kind.from_logits(outputs[Columns.ACTION_DIST_INPUTS])
        actions: torch.Tensor = distribution.to_deterministic().sample()
        return actions

    def _to_bounds(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """What RLlib's NormalizeAndClipActions does: [-1, 1] to the bounds, or clipped to them, as set."""
        if self.config.normalize_actions:
            if not self._bounded:
                return actions
            actions = self._low + (actions + 1.0) * ((self._high - self._low) / 2.0)
        elif not self.config.clip_actions:
            return actions
        return np.clip(actions, self._low, self._high)

    def _count_step(self, real: NDArray[np.bool_], rewards: NDArray[Any]) -> int:
        self._lengths += real
        self._returns += rewards  # 0 where the step was a reset
        return int(np.count_nonzero(real))

    def _note_ends(self, at_most: int | None) -> int:
        """Note the episodes that have just ended for the metrics; returns how many."""
        now = time.perf_counter()
        which = np.flatnonzero(self._ended)[:at_most]
        for i in which.tolist():
            self._finished.append((int(self._lengths[i]), float(self._returns[i]), now - self._began[i]))
        self._lengths[self._ended] = 0
        self._returns[self._ended] = 0.0
        self._began[self._ended] = now
        return len(which)

    def _log_times(self, rows: int, in_environment: float, in_module: float) -> None:
        if rows:
            self.metrics.log_value(ENV_STEP_TIMER, in_environment / rows)
            self.metrics.log_value(RLMODULE_INFERENCE_TIMER, in_module / rows)
            self._log_env_steps(self._metrics_num_try_env_step, rows)

    def get_metrics(self) -> Any:
        """Metrics since the last call, of the episodes that ended too."""
        for length, total, seconds in self._finished:
            self._log_episode_metrics(length, total, seconds)
        self._finished.clear()
        return self.metrics.reduce()

    def sampler_state(self) -> dict[str, Any] | None:
        """What the next fragment depends on besides the module's weights; None before the first fragment.

        Environments that cannot tell their state (`BatchVectorEnv` can) begin new episodes instead.
        """
        if not self._continues or self._vector is None:
            return self._restored  # nothing was sampled since
        unwrapped: Any = self._vector.unwrapped
        return {
            "runner": self.worker_index or 0,
            "incarnation": self._incarnation,
            "environments": unwrapped.get_state() if hasattr(unwrapped, "get_state") else None,
            "observations": self._observations.copy(),
            "ended": self._ended.copy(),
            "lengths": self._lengths.copy(),
            "returns": self._returns.copy(),
            "torch": torch.get_rng_state().numpy(),
            "steps_sampled": self._steps_sampled,
        }

    def restore_sampler(self, state: Mapping[str, Any]) -> str:
        """Go on from a `sampler_state` of the runner with this number, in this process or an earlier one.

        Returns:
            What tells this process from others that have been this runner: ``incarnation`` of its states.

        Raises:
            ValueError: a state of another runner, or of another number of environments.
        """
        if state["runner"] != (self.worker_index or 0):
            raise ValueError(f"the state of runner {state['runner']} for runner {self.worker_index or 0}")
        if len(state["observations"]) != self.num_envs:
            raise ValueError(
                f"a state of {len(state['observations'])} environments for {self.num_envs} of them"
            )
        torch.set_rng_state(torch.from_numpy(state["torch"]))
        self._steps_sampled = state["steps_sampled"]
        self._begin_anew()
        if state["environments"] is None:
            self._restored = {**state, "incarnation": self._incarnation}
            self._change_seed()
            self._needs_initial_reset = True
            return self._incarnation
        cast(Any, self._vector).unwrapped.set_state(state["environments"])
        self._observations = np.array(state["observations"], np.float32)
        self._ended = state["ended"].copy()
        self._lengths, self._returns = state["lengths"].copy(), state["returns"].copy()
        self._continues = True
        self._needs_initial_reset = False
        return self._incarnation

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> Any:
        """RLlib's state, and `sampler_state` of the local training runner."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(SAMPLER, components, not_components) and self._is_local_training_runner:
            state[SAMPLER] = self.sampler_state()
        return state

    @property
    def _is_local_training_runner(self) -> bool:
        return not self.worker_index and not self.config.in_evaluation

    def set_state(self, state: Any) -> None:
        """Take over a state; the sampler's only if it is this runner's own."""
        if state.get(WEIGHTS_SEQ_NO, 0) < self._weights_seq_no:
            # RLlib ignores older weights. They come when an earlier checkpoint is restored.
            self._weights_seq_no = 0
        super().set_state(state)
        sampler = state.get(SAMPLER)
        if sampler is not None and self._is_local_training_runner:
            self.restore_sampler(sampler)


class _EnvironmentFailedError(Exception):
    """A step or a reset of the environment raised; the cause is its error."""
