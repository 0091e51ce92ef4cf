"""SAC on RLlib: fragments into a flat replay buffer, and the stated number of updates after each of them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from ray.rllib.algorithms import sac as rllib_sac
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    REPLAY_BUFFER_ADD_DATA_TIMER,
    REPLAY_BUFFER_SAMPLE_TIMER,
    TIMERS,
)

from iquitos_rl.algorithms.batched_env_runner import BatchedEnvRunner
from iquitos_rl.algorithms.env_runner_checks import check_env_runner_config
from iquitos_rl.algorithms.replay import ReplayBuffer
from iquitos_rl.algorithms.sac_learner import SACLearner
from iquitos_rl.algorithms.sac_module import QNetworkCatalog, SACModule
from iquitos_rl.algorithms.sampling import FragmentSampling

__all__ = ["SAC", "SACConfig"]

REPLAY_BUFFER = "replay_buffer"
MOST_UPDATES_PER_CALL = 8
"""Minibatches handed to the learner together: saves calls, and at 918 observations is 16 MB."""


class SACConfig(rllib_sac.SACConfig):
    """RLlib's SAC configuration with our network, learner and runner, plus `critic_loss`.

    What RLlib's offers beyond the report's SAC, and this one does not have, is refused.
    """

    env_runner_cls: Any

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or SAC)
        self.env_runner_cls = BatchedEnvRunner
        self.critic_loss = "mse"
        # RLlib insists on one of its own types; ours takes only the capacity from here.
        self.replay_buffer_config = {"type": "EpisodeReplayBuffer", "capacity": 200_000}

    def training(self, *, critic_loss: Any = NotProvided, **kwargs: Any) -> SACConfig:
        """Set training options: `critic_loss` ("mse" or "huber"), and all of RLlib's SAC."""
        super().training(**kwargs)
        if critic_loss is not NotProvided:
            self.critic_loss = critic_loss
        return self

    def validate(self) -> None:
        """Check the options.

        Raises:
            ValueError: one that would not be honoured.
        """
        super().validate()
        check_env_runner_config(self)
        for key, allowed in (
            ("critic_loss", ("mse", "huber")),
            ("twin_q", (True,)),
            ("n_step", (1,)),
            ("grad_clip", (None,)),
            ("target_network_update_freq", (0,)),
        ):
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"{key} = {getattr(self, key)!r}: this SAC takes {' or '.join(map(repr, allowed))}"
                )

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Return our module on plain Q-networks."""
        return RLModuleSpec(module_class=SACModule, catalog_class=QNetworkCatalog)

    def get_default_learner_class(self) -> type[SACLearner]:
        """Return the learner."""
        return SACLearner


class SAC(FragmentSampling, rllib_sac.SAC):
    """Soft actor-critic with automatic temperature.

    Papers: Haarnoja et al. 2018, arXiv:1801.01290 and arXiv:1812.05905. Differences from Stable-Baselines3,
    whose settings the report gives:

    - Warm-up: here acts the untrained policy, there actions are uniformly random. The untrained policy is the
      tanh of a Gaussian with mean about 0 and standard deviation about 1 in every state, so it covers the
      whole action range too: a little denser where |action| is about 0.7, thinner at the ends.
    - All gradients of an update are taken at the same weights, as in RLlib; there the critics move before the
      policy's gradient is taken.
    - The log standard deviation is at least -5 (there -20); both have at most 2.
    """

    config: Any
    learner_group: Any
    local_replay_buffer: Any

    @classmethod
    def get_default_config(cls) -> SACConfig:  # type: ignore[override]  # as RLlib's SAC itself
        """Return the configuration."""
        return SACConfig()

    def _create_local_replay_buffer_if_necessary(self, config: Any) -> Any:
        return ReplayBuffer(
            config["replay_buffer_config"]["capacity"],
            samplers=max(1, config["num_env_runners"]),
            seed=config["seed"],
        )

    def training_step(self) -> None:
        """Sample once, store it, take the updates that are due, and send the runners the new policy."""
        fragments = self.sample_fragments()
        due_before = self._updates_due()
        with self.metrics.log_time((TIMERS, REPLAY_BUFFER_ADD_DATA_TIMER)):
            self.local_replay_buffer.add(fragments)
        updates = self._updates_due() - due_before
        calls = math.ceil(updates / MOST_UPDATES_PER_CALL)
        for call in range(calls):
            results = self._update((updates + call) // calls)
        if updates:
            self.sync_weights(results)

    def _updates_due(self) -> int:
        """Updates that all environment steps until now call for, the warm-up's aside."""
        # RLlib starts updating when it has gathered this many, so that step is the first with updates.
        warmup = self.config.num_steps_sampled_before_learning_starts - 1
        steps = self.local_replay_buffer.steps_added - warmup
        # RLlib's training intensity is samples trained on per sample gathered; one per step if it is not set
        intensity = self.config.training_intensity or self.config.total_train_batch_size
        return max(0, math.floor(steps * intensity / self.config.total_train_batch_size + 1e-9))

    def _update(self, updates: int) -> list[Any]:
        samples = updates * self.config.total_train_batch_size
        with self.metrics.log_time((TIMERS, REPLAY_BUFFER_SAMPLE_TIMER)):
            drawn = self.local_replay_buffer.sample(samples)
        batch = SampleBatch(
            {
                Columns.OBS: drawn.observations,
                Columns.ACTIONS: drawn.actions,
                Columns.REWARDS: drawn.rewards,
                Columns.NEXT_OBS: drawn.next_observations,
                Columns.TERMINATEDS: drawn.terminated,
            }
        )
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results: list[Any] = self.learner_group.update(
                batch=MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=samples),
                minibatch_size=self.config.train_batch_size_per_learner,
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.env_steps_sampled()},
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        return results

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """Return RLlib's components and the replay buffer."""
        return [*super().get_checkpointable_components(), (REPLAY_BUFFER, self.local_replay_buffer)]

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return RLlib's state and the replay buffer's."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(REPLAY_BUFFER, components, not_components):
            state[REPLAY_BUFFER] = self.local_replay_buffer.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        super().set_state(state)
        if REPLAY_BUFFER in state:
            self.local_replay_buffer.set_state(state[REPLAY_BUFFER])
