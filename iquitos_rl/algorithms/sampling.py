"""Sampling by batched env runners: one fragment of each, also of one that died in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import ray
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from iquitos_rl.algorithms.fragment import Fragment

__all__ = ["FragmentSampling"]

LOGGER = logging.getLogger("ray.rllib")
SAMPLERS = "samplers"
"""Key of the algorithm's state: the remote runners' `sampler_state`, by index."""
RETRY_SECONDS = 0.5


class FragmentSampling:
    """Mixin for an RLlib `Algorithm` whose env runners are `BatchedEnvRunner`.

    RLlib lets the runners that are left sample more when one dies, and starts the lost one again from its
    seed, with the windows and the noise that it began the training with. Here every fragment brings the state
    of its runner along. A runner that died is started again (by RLlib), put back to where its last fragment
    ended, and samples the missing one: the training sees the same data as if nothing had happened. The
    training waits for that, at most ``env_runner_health_probe_timeout_s``; then the others sample in its
    place until it is back, and so they do if it dies again and again. One that does not answer for
    ``sample_timeout_s`` is ended and started again. An error in a runner is raised here: started again at the
    same place, it would meet the same error.
    """

    config: Any
    metrics: Any
    env_runner_group: Any
    learner_group: Any

    def setup(self, config: Any) -> None:
        """Set the algorithm up, as RLlib does."""
        self._sampler_states: dict[int, Mapping[str, Any]] = {}
        self._given_up: set[int] = set()
        super().setup(config)  # type: ignore[misc]

    def env_steps_sampled(self) -> int:
        """Real environment steps since the training began."""
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))

    def sample_fragments(self, env_steps: int = 1) -> list[Fragment]:
        """Sample with the present weights; notes the runners' metrics.

        Args:
            env_steps: at least so many real steps; each runner samples as often as that takes.

        Returns:
            At least one fragment of each runner, in the order of their indices.

        Raises:
            RuntimeError: every remote runner is lost and cannot be started again.
        """
        fragments: list[Fragment] = []
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            while sum(map(len, fragments)) < env_steps:
                if self.env_runner_group.num_remote_env_runners():
                    sampled = self._sample_remotely()
                else:
                    runner = self.env_runner_group.local_env_runner
                    sampled = [(runner.sample(), runner.get_metrics())]
                fragments += [fragment for part, _ in sampled for fragment in part]
                self.metrics.aggregate([results for _, results in sampled], key=ENV_RUNNER_RESULTS)
        return fragments

    def _sample_remotely(self) -> list[tuple[list[Fragment], Any]]:
        """What each remote runner has sampled, with its metrics, in the order of their indices."""
        runners = set(range(1, self.env_runner_group.num_remote_env_runners() + 1))
        sampled: dict[int, tuple[list[Fragment], Any]] = {}
        restarts_left = self.config.num_consecutive_env_runner_failures_tolerance
        deadline: float | None = None
        while True:
            for index, result in self._ask(runners.difference(sampled)):
                sampled[index] = result
                self._sampler_states[index] = _state_after(result[0])
            missing = runners.difference(sampled)
            if not missing.difference(self._given_up) and sampled:
                return [sampled[index] for index in sorted(sampled)]
            if restarts_left > 0 and self.restore_env_runners(self.env_runner_group):
                restarts_left -= 1
                deadline = None
                continue
            # Ray is still starting them. The time that takes counts from here, not from when they were asked.
            deadline = deadline or time.monotonic() + self.config.env_runner_health_probe_timeout_s
            if restarts_left <= 0 or time.monotonic() > deadline:
                self._give_up(missing)
            else:
                time.sleep(RETRY_SECONDS)

    def _give_up(self, runners: set[int]) -> None:
        """Wait no longer for some runners, until they answer again."""
        if len(runners) == self.env_runner_group.num_remote_env_runners():
            raise RuntimeError(
                f"none of the {len(runners)} env runners answers, and none could be started again: look at "
                "the nodes of the cluster and at its log for what ends them (often memory)"
            )
        LOGGER.warning("env runners %s are lost: the others sample in their place", sorted(runners))
        self._given_up |= runners

    def _ask(self, runners: set[int]) -> list[tuple[int, tuple[list[Fragment], Any]]]:
        """Let some runners sample, those of them that are alive; what comes back, without what is void."""
        manager = self.env_runner_group._worker_manager
        asked = sorted(runners.intersection(manager.healthy_actor_ids()))
        if not asked:
            return []
        answers = manager.foreach_actor(
            _sample_and_report, remote_actor_ids=asked, timeout_seconds=self.config.sample_timeout_s
        )
        valid = []
        for answer in answers:
            if not answer.ok:
                continue  # died: RLlib has marked it as unhealthy
            sampled = answer.get()
            if isinstance(sampled, BaseException):
                raise sampled
            if self._was_replaced(answer.actor_id, sampled[0]):
                # Died and came back unnoticed, with its first weights. As if it had not answered at all:
                manager.set_actor_state(answer.actor_id, healthy=False)
                continue
            valid.append((answer.actor_id, sampled))
        silent = set(asked) - {answer.actor_id for answer in answers}
        for index in silent.intersection(manager.healthy_actor_ids()):
            LOGGER.warning(
                "env runner %d has not answered for sample_timeout_s = %s s: it is started again",
                index,
                self.config.sample_timeout_s,
            )
            manager.set_actor_state(index, healthy=False)
            ray.kill(manager.actors()[index], no_restart=False)
        return valid

    def _was_replaced(self, index: int, fragments: list[Fragment]) -> bool:
        """Whether a runner is another process than the one whose state is known."""
        known = self._sampler_states.get(index)
        return known is not None and known["incarnation"] != _state_after(fragments)["incarnation"]

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """RLlib's: give runners that were started again the weights; then also their place in the data."""
        restored: list[int] = super().restore_env_runners(env_runner_group)  # type: ignore[misc]
        if env_runner_group is self.env_runner_group:
            for index in restored:
                self._put_back(index)
            self._given_up.difference_update(restored)
        return restored

    def _put_back(self, index: int) -> None:
        state = self._sampler_states.get(index)
        if state is None:
            return  # lost before its first fragment: it begins as it did then
        answers = self.env_runner_group._worker_manager.foreach_actor(
            partial(_restore_sampler, state=state), remote_actor_ids=[index]
        )
        for answer in answers:
            if answer.ok:
                self._sampler_states[index] = {**state, "incarnation": answer.get()}

    def sync_weights(self, learner_results: list[Any]) -> None:
        """Send the learner's weights to all runners; a runner takes them in before it samples again."""
        group = self.env_runner_group
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            if group.num_remote_env_runners():
                group.sync_weights(
                    from_worker_or_learner_group=self.learner_group,
                    policies=set(learner_results[0]) - {ALL_MODULES},
                    timeout_seconds=self.config.sample_timeout_s,
                    inference_only=True,
                )
                return
            # Not by way of Ray's object store: that costs a tenth of an update of SAC, which has one for
            # every step.
            component = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
            state = self.learner_group.get_state(components=component, inference_only=True)
            group.local_env_runner.set_state(state[COMPONENT_LEARNER])

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> Any:
        """RLlib's state, and where each remote runner is."""
        state = super().get_state(components, not_components=not_components, **kwargs)  # type: ignore[misc]
        if self._check_component(SAMPLERS, components, not_components):  # type: ignore[attr-defined]
            state[SAMPLERS] = dict(self._sampler_states)
        return state

    def set_state(self, state: Any) -> None:
        """Take over a state; remote runners go on from where they were."""
        super().set_state(state)  # type: ignore[misc]
        remote = self.env_runner_group.num_remote_env_runners()
        self._sampler_states = {
            index: sampler for index, sampler in state.get(SAMPLERS, {}).items() if index <= remote
        }
        for index in list(self._sampler_states):
            self._put_back(index)


def _state_after(fragments: list[Fragment]) -> Mapping[str, Any]:
    state = fragments[-1].sampler_state
    assert state is not None  # remote runners always add it
    return state


def _sample_and_report(runner: Any) -> tuple[list[Fragment], Any] | Exception:
    """Sample in a remote runner. An error is returned: raised there, it would end and restart the runner."""
    try:
        return runner.sample(), runner.get_metrics()
    except Exception as error:
        LOGGER.exception("env runner %s failed", runner.worker_index)
        return error


def _restore_sampler(runner: Any, state: Mapping[str, Any]) -> str:
    incarnation: str = runner.restore_sampler(state)
    return incarnation
