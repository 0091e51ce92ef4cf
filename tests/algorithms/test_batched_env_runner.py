"""The batched env runner samples what RLlib's own runner samples, and survives what that one survives."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.tune.registry import register_env

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.algorithms.batched_env_runner import BatchedEnvRunner
from iquitos_rl.algorithms.errors import NonFiniteActionError
from iquitos_rl.algorithms.fragment import Fragment
from tests.algorithms.conftest import ENV
from tests.algorithms.fragments import episodes_of, sorted_rows
from tests.algorithms.point_env import PointEnv

pytestmark = [
    # RLlib registers every environment under this one name
    pytest.mark.filterwarnings("ignore:.*Overriding environment rllib-single-agent-env-v0:UserWarning"),
]

LONG = "iquitos_rl_tests/Long"
SHORT_AND_TERMINATING = {"episode_steps": 60, "terminates": True}


class FailingEnv(PointEnv):
    """Fails in its third step, in the first ``failures`` lives of an environment."""

    lives = 0

    def __init__(self, config: dict[str, Any] | None = None):
        super().__init__(config)
        self._fails = type(self).lives < (config or {}).get("failures", 0)
        type(self).lives += 1

    def step(self, action: np.ndarray) -> Any:
        if self._fails and self._step == 2:
            raise OSError("the meter does not answer")
        return super().step(action)


class FailingResetEnv(FailingEnv):
    """Cannot even be reset."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        raise OSError("the meter does not answer")


@pytest.fixture
def runner_of(load_settings: Callable[..., Any]) -> Any:
    """Makes a runner without Ray, of one of the two classes."""
    runners = []

    def make(
        kind: type[SingleAgentEnvRunner] = BatchedEnvRunner,
        algorithm: str = "ppo",
        env: type[gym.Env[Any, Any]] = PointEnv,
        env_config: dict[str, Any] = SHORT_AND_TERMINATING,
        num_envs: int = 3,
        seed: int | None = 5,
        worker_index: int = 0,
        **fault_tolerance: Any,
    ) -> Any:
        changes = {"n_steps": 60, "minibatch_size": 60} if algorithm != "sac" else {}
        settings = load_settings(algorithm, hidden=[8], **changes)
        register_env(ENV, env)
        config = build_algorithm_config(
            settings, env=ENV, env_config=env_config, num_envs=num_envs, seed=seed
        )
        config.fault_tolerance(**fault_tolerance)
        runners.append(kind(config=config, worker_index=worker_index, num_workers=0))
        return runners[-1]

    yield make
    for runner in runners:
        runner.stop()


def _rows(episodes: list[Any]) -> np.ndarray:
    """Every step of RLlib's episodes: observations around it, action, log probability, reward, flags."""
    parts = []
    for episode in episodes:
        observations = episode.get_observations()
        steps = len(episode)
        ends = np.arange(steps) == steps - 1
        columns = (
            observations[:-1],
            observations[1:],
            episode.get_actions(),
            np.asarray(episode.get_extra_model_outputs("action_logp"))[:, None],
            np.asarray(episode.get_rewards())[:, None],
            (ends & episode.is_terminated)[:, None],
            (ends & episode.is_truncated)[:, None],
        )
        parts.append(np.concatenate([np.asarray(c, np.float64) for c in columns], axis=1))
    return sorted_rows(np.concatenate(parts))


EQUAL_METRICS = (
    "num_env_steps_sampled",
    "num_env_steps_sampled_lifetime",
    "num_episodes",
    "num_episodes_lifetime",
    "episode_len_mean",
    "episode_len_min",
    "episode_len_max",
    "episode_return_mean",
    "episode_return_min",
    "episode_return_max",
)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "sac"])
def test_the_same_steps_and_metrics_as_the_stock_runner(algorithm: str, runner_of: Any) -> None:
    sampled = {}
    for kind in (SingleAgentEnvRunner, BatchedEnvRunner):
        runner = runner_of(kind, algorithm)
        sampled[kind] = [
            (runner.sample(num_timesteps=300, explore=True), runner.get_metrics()) for _ in "123"
        ]
    for (stock, stock_metrics), (ours, our_metrics) in zip(*sampled.values(), strict=True):
        (fragment,) = ours
        assert len(fragment) == sum(map(len, stock)) >= 300
        np.testing.assert_allclose(_rows(episodes_of(fragment)), _rows(stock), atol=1e-5)
        for name in EQUAL_METRICS:
            assert our_metrics[name].peek() == pytest.approx(stock_metrics[name].peek(), abs=1e-5), name
    fragments = [fragment for (fragment,), _ in sampled[BatchedEnvRunner]]
    assert any(fragment.terminated.any() for fragment in fragments)
    assert any(fragment.truncated.any() for fragment in fragments)
    assert [fragment.continues for fragment in fragments] == [False, True, True]
    for before, after in itertools.pairwise(fragments):
        np.testing.assert_array_equal(before.observations[-1], after.observations[0])


def test_deterministic_actions_are_the_same_too(runner_of: Any) -> None:
    returns = []
    for kind in (SingleAgentEnvRunner, BatchedEnvRunner):
        runner = runner_of(kind)
        runner.sample(num_timesteps=300, explore=False)
        returns.append(runner.get_metrics()["episode_return_mean"].peek())
    assert returns[0] == pytest.approx(returns[1], abs=1e-5)


def test_whole_episodes_for_an_evaluation(runner_of: Any) -> None:
    runner = runner_of(num_envs=3, env_config={"episode_steps": 7})
    runner.sample(num_timesteps=10, explore=True)
    runner.get_metrics()
    (fragment,) = runner.sample(num_episodes=4, explore=False)
    metrics = runner.get_metrics()
    assert metrics["num_episodes"].peek() == 4
    assert metrics["episode_len_mean"].peek() == 7  # begun anew, not the rest of what was going on
    assert not fragment.continues
    # Training goes on with new episodes.
    (fragment,) = runner.sample(num_timesteps=3, explore=True)
    assert not fragment.continues


def test_episodes_longer_than_expected(runner_of: Any) -> None:
    (fragment,) = runner_of(env_config={"episode_steps": 700}).sample(num_episodes=3, explore=False)
    assert fragment.real.shape == (700, 3)
    assert fragment.truncated[-1].all()
    np.testing.assert_allclose(fragment.observations[1:, :, 1].max(), 1.0)


def test_random_actions_are_the_environment_s(runner_of: Any) -> None:
    (fragment,) = runner_of().sample(num_timesteps=200, explore=True, random_actions=True)
    assert fragment.actions[..., 1].min() >= 0.0  # the bounds of that action are 0 and 1, a policy's -1 and 1
    assert fragment.actions[..., 0].min() < 0.0


def test_a_failing_environment_is_an_error(runner_of: Any) -> None:
    FailingEnv.lives = 0
    runner = runner_of(env=FailingEnv, env_config={"failures": 100})
    with pytest.raises(RuntimeError, match=r"meter does not answer.*restart_failed_sub_environments"):
        runner.sample(num_timesteps=30, explore=True)


def test_a_failing_environment_is_made_anew_if_asked_for(runner_of: Any) -> None:
    FailingEnv.lives = 0
    runner = runner_of(env=FailingEnv, env_config={"failures": 4}, restart_failed_sub_environments=True)
    (fragment,) = runner.sample(num_timesteps=30, explore=True)
    metrics = runner.get_metrics()
    assert FailingEnv.lives == 9  # three environments, made anew twice
    assert metrics["num_env_step_failures"].peek() == 2
    assert metrics["num_env_steps_sampled"].peek() == len(fragment) == 30
    assert not fragment.continues


def test_an_environment_that_always_fails_does_not_go_on_for_ever(runner_of: Any) -> None:
    FailingEnv.lives = 0
    runner = runner_of(
        env=FailingEnv,
        env_config={"failures": 10**6},
        restart_failed_sub_environments=True,
        num_consecutive_env_runner_failures_tolerance=3,
    )
    with pytest.raises(RuntimeError, match=r"failed 4 times in a row.*meter does not answer"):
        runner.sample(num_timesteps=30, explore=True)


def test_environments_made_anew_begin_other_episodes(runner_of: Any) -> None:
    first = runner_of().sample(num_timesteps=3, explore=True)[0].observations[0]
    FailingEnv.lives = 0
    runner = runner_of(env=FailingEnv, env_config={"failures": 3}, restart_failed_sub_environments=True)
    (fragment,) = runner.sample(num_timesteps=3, explore=True)  # fails in its third step
    assert np.array_equal(fragment.observations[0], first)
    (fragment,) = runner.sample(num_timesteps=9, explore=True)
    assert not fragment.continues
    assert not np.array_equal(fragment.observations[0], first)


def test_an_environment_that_cannot_be_reset_does_not_go_on_for_ever(runner_of: Any) -> None:
    runner = runner_of(
        env=FailingResetEnv,
        restart_failed_sub_environments=True,
        num_consecutive_env_runner_failures_tolerance=2,
    )
    with pytest.raises(RuntimeError, match=r"failed 3 times in a row.*meter does not answer"):
        runner.sample(num_timesteps=30, explore=True)


def test_other_errors_of_the_policy_keep_their_name(runner_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of()

    def fail(observations: Any) -> Any:
        raise torch.OutOfMemoryError("8 GB are not enough")

    monkeypatch.setattr(runner.module, "sample_actions", fail)
    with pytest.raises(torch.OutOfMemoryError, match="8 GB"):
        runner.sample(num_timesteps=30, explore=True)


def test_actions_that_are_not_finite_do_not_reach_the_environment(runner_of: Any) -> None:
    runner = runner_of()
    with torch.no_grad():
        next(runner.module.pi.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteActionError, match=r"not finite.*env runner 0"):
        runner.sample(num_timesteps=30, explore=True)


def _config(load_settings: Callable[..., Any]) -> Any:
    settings = load_settings("ppo", hidden=[8], n_steps=64, minibatch_size=64)
    return build_algorithm_config(settings, env=ENV, env_config={}, num_envs=2)


def test_filters_outside_of_the_policy_are_refused(load_settings: Callable[..., Any]) -> None:
    config = _config(load_settings).env_runners(
        env_to_module_connector=lambda env, spaces, device: MeanStdFilter()
    )
    with pytest.raises(ValueError, match="scale observations in the environment"):
        config.validate()


class EpisodeCallback(RLlibCallback):
    def on_episode_end(self, **options: Any) -> None:
        pass


@pytest.mark.parametrize("given", [{"on_episode_end": print}, {"callbacks_class": EpisodeCallback}])
def test_callbacks_on_episodes_are_refused(load_settings: Callable[..., Any], given: dict[str, Any]) -> None:
    config = _config(load_settings).callbacks(**given)
    with pytest.raises(ValueError, match=r"on_episode_end.*on_sample_end"):
        config.validate()


def test_batches_of_whole_episodes_are_refused(load_settings: Callable[..., Any]) -> None:
    config = _config(load_settings).env_runners(batch_mode="complete_episodes")
    with pytest.raises(ValueError, match="batch_mode 'complete_episodes'"):
        config.validate()


class DiscreteEnv(PointEnv):
    def __init__(self, config: dict[str, Any] | None = None):
        super().__init__(config)
        self.action_space: Any = gym.spaces.Discrete(3)


def test_other_spaces_are_refused(runner_of: Any) -> None:
    with pytest.raises(ValueError, match="single_action_space Discrete"):
        runner_of(env=DiscreteEnv)


# --- state ------------------------------------------------------------------------------------------------


def _arrays(fragment: Fragment) -> dict[str, np.ndarray]:
    return {name: value for name, value in vars(fragment).items() if isinstance(value, np.ndarray)}


def _assert_same(first: Fragment, second: Fragment) -> None:
    for name, array in _arrays(first).items():
        np.testing.assert_array_equal(array, _arrays(second)[name], err_msg=name)
    assert first.continues == second.continues


def test_environments_without_a_state_begin_other_episodes(runner_of: Any) -> None:
    runner = runner_of()
    (first,) = runner.sample(num_timesteps=30, explore=True)
    state = runner.sampler_state()
    assert state["environments"] is None
    other = runner_of()
    other.restore_sampler(state)
    (after,) = other.sample(num_timesteps=30, explore=True)
    assert not after.continues
    assert not np.array_equal(after.observations[0], first.observations[0])  # not those of the seed again


@pytest.mark.parametrize("change", [{"num_envs": 4}, {"worker_index": 1}])
def test_the_state_of_another_runner_is_refused(runner_of: Any, change: dict[str, Any]) -> None:
    runner = runner_of()
    runner.sample(num_timesteps=30, explore=True)
    with pytest.raises(ValueError, match=r"for (3|4|runner|4 of)"):
        runner_of(**change).restore_sampler(runner.sampler_state())


def test_a_restored_state_can_be_saved_again(runner_of: Any) -> None:
    """Before anything was sampled: the next process, too, must not begin with the first episodes again."""
    runner = runner_of()
    runner.sample(num_timesteps=30, explore=True)
    state = runner.sampler_state()
    restored = runner_of()
    restored.restore_sampler(state)
    assert restored.sampler_state()["steps_sampled"] == state["steps_sampled"] == 30


def test_older_weights_are_taken_too(runner_of: Any) -> None:
    """They come with an earlier checkpoint, restored into a training that has gone on."""
    runner = runner_of()
    earlier = runner.get_state() | {"weights_seq_no": 2}
    with torch.no_grad():
        runner.module.pi.log_std.fill_(-1.0)
    later = runner.get_state() | {"weights_seq_no": 5}
    runner.set_state(later)
    runner.set_state(earlier)
    assert not runner.module.pi.log_std.any()
    assert runner.get_state()["weights_seq_no"] == 2


def test_an_evaluation_does_not_take_the_place_of_training(runner_of: Any) -> None:
    runner = runner_of()
    runner.sample(num_timesteps=30, explore=True)
    state = runner.get_state()
    assert state["sampler"] is not None
    evaluation = runner_of(num_envs=2)
    evaluation.config.in_evaluation = True
    evaluation.set_state(state)
    assert "sampler" not in evaluation.get_state()
    assert evaluation.sample(num_episodes=2, explore=False)[0].real.shape[1] == 2
