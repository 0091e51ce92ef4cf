"""What A2C and PPO share: minibatches, advantages, the entropy schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from stable_baselines3.common.buffers import RolloutBuffer

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.algorithms.on_policy import AdvantageEstimation, ShuffledMinibatches

# --- minibatches ------------------------------------------------------------------------------------------


def _minibatches(
    samples: int, size: int, epochs: int, seed: int = 0, per_epoch: int | None = None
) -> list[np.ndarray]:
    """The sample numbers in each minibatch."""
    columns = {"number": torch.arange(samples), "obs": torch.arange(samples)[:, None].float()}
    iterator = ShuffledMinibatches(
        MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, samples),
        minibatch_size=size,
        epochs=epochs,
        rng=np.random.default_rng(seed),
        minibatches_per_epoch=per_epoch,
    )
    numbers = []
    for minibatch in iterator:
        part: Any = minibatch[DEFAULT_MODULE_ID]
        assert torch.equal(part["obs"][:, 0], part["number"].float())  # columns stay together
        assert minibatch.env_steps() == len(part["number"])
        numbers.append(part["number"].numpy())
    return numbers


def test_2048_samples_are_14_minibatches_of_146_and_one_of_4() -> None:
    assert [len(part) for part in _minibatches(2048, 146, epochs=1)] == [146] * 14 + [4]


@pytest.mark.parametrize(("samples", "size"), [(2048, 146), (2048, 64), (7, 7), (5, 9), (3, 1)])
def test_every_sample_comes_exactly_once_per_epoch(samples: int, size: int) -> None:
    parts = _minibatches(samples, size, epochs=3)
    per_epoch = len(parts) // 3
    for epoch in range(3):
        order = np.concatenate(parts[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert np.array_equal(np.sort(order), np.arange(samples))


def test_every_epoch_is_shuffled_differently_also_the_first() -> None:
    epochs = [np.concatenate(_minibatches(100, 30, 3)[4 * i : 4 * i + 4]) for i in range(3)]
    orders = [np.arange(100), *epochs]
    assert all(not np.array_equal(a, b) for i, a in enumerate(orders) for b in orders[:i])


def test_the_seed_decides_the_order() -> None:
    first, again, other = (np.concatenate(_minibatches(100, 30, 2, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_learners_that_must_agree_end_each_epoch_early() -> None:
    assert [len(part) for part in _minibatches(100, 30, epochs=2, per_epoch=3)] == [30] * 6


def test_nothing_follows_after_stop() -> None:
    columns = {"number": torch.arange(10)}
    iterator = ShuffledMinibatches(
        MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, 10),
        minibatch_size=2,
        epochs=5,
        rng=np.random.default_rng(0),
    )
    seen = 0
    for _ in iterator:
        seen += 1
        if seen == 3:
            iterator.stop()
    assert seen == 3


# --- advantages -------------------------------------------------------------------------------------------


class _ObservationIsValue:
    """A critic that reads the value off the observation."""

    def unwrapped(self) -> _ObservationIsValue:
        return self

    def compute_values(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch[Columns.OBS][:, 0]


def _hand_made_columns(terminated: bool) -> dict[str, torch.Tensor]:
    """Two steps with values 1 and 2, reward 1 each, then an artificial row with value 4."""
    return {
        Columns.OBS: torch.tensor([[1.0], [2.0], [4.0]]),
        Columns.ACTIONS: torch.zeros(3, 1),
        Columns.ACTION_LOGP: torch.zeros(3),
        Columns.REWARDS: torch.tensor([1.0, 1.0, 0.0]),
        Columns.TERMINATEDS: torch.tensor([False, terminated, False]),
        Columns.TRUNCATEDS: torch.tensor([False, not terminated, False]),
        Columns.LOSS_MASK: torch.tensor([True, True, False]),
    }


@pytest.mark.parametrize(
    ("terminated", "expected"),
    [
        # delta_1 = 1 + 0.5 x 4 - 2 = 1, delta_0 = 1 + 0.5 x 2 - 1 = 1, A_0 = 1 + 0.25 x 1
        (False, [1.25, 1.0]),
        # delta_1 = 1 - 2 = -1, A_0 = 1 + 0.25 x (-1)
        (True, [0.75, -1.0]),
    ],
)
def test_advantages_of_a_hand_made_episode(terminated: bool, expected: list[float]) -> None:
    connector = AdvantageEstimation(gamma=0.5, lambda_=0.5)
    modules = {DEFAULT_MODULE_ID: _ObservationIsValue()}
    batch = connector(rl_module=modules, batch={DEFAULT_MODULE_ID: _hand_made_columns(terminated)})
    columns = batch[DEFAULT_MODULE_ID]
    assert columns[Postprocessing.ADVANTAGES].tolist() == pytest.approx(expected)
    assert columns[Postprocessing.VALUE_TARGETS].tolist() == pytest.approx([expected[0] + 1, expected[1] + 2])
    assert all(len(column) == 2 for column in columns.values())  # without the artificial row


def _episode(rng: np.random.Generator, steps: int, end: str) -> SingleAgentEpisode:
    return SingleAgentEpisode(
        observations=list(rng.normal(size=(steps + 1, 2)).astype(np.float32)),
        actions=list(rng.uniform(size=(steps, 2)).astype(np.float32)),
        rewards=list(rng.normal(size=steps)),
        terminated=end == "terminated",
        truncated=end == "truncated",
        extra_model_outputs={Columns.ACTION_LOGP: list(np.zeros(steps, np.float32))},
        len_lookback_buffer=0,
    ).to_numpy()


@pytest.mark.parametrize("gae_lambda", [1.0, 0.95])
def test_advantages_equal_stable_baselines3(
    gae_lambda: float, point_env: Any, load_settings: Callable[..., Any]
) -> None:
    """A rollout of a terminated, a truncated and a cut-off episode, through the learner's whole pipeline."""
    gamma, lengths, ends = 0.97, (9, 14, 7), ("terminated", "truncated", "cut off")
    settings = load_settings("a2c", gamma=gamma, gae_lambda=gae_lambda, hidden=[8], n_steps=256)
    config = build_algorithm_config(settings, env="unused", env_config={}, seed=3)
    learner: Any = config.build_learner(env=point_env)
    module: Any = learner.module[DEFAULT_MODULE_ID].unwrapped()
    rng = np.random.default_rng(0)
    episodes: list[Any] = [_episode(rng, steps, end) for steps, end in zip(lengths, ends, strict=True)]

    def value(observation: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return module.compute_values({Columns.OBS: torch.from_numpy(observation[None])})

    buffer = RolloutBuffer(
        sum(lengths), point_env.observation_space, point_env.action_space, "cpu", gae_lambda, gamma
    )
    for episode in episodes:
        observations, rewards = episode.get_observations(), episode.get_rewards()
        for step, reward in enumerate(rewards):
            if step == len(episode) - 1 and episode.is_truncated:
                reward += gamma * float(value(observations[-1]))  # as its collect_rollouts does
            buffer.add(
                observations[step],
                episode.get_actions(step),
                np.array([reward]),
                np.array([step == 0]),
                value(observations[step]),
                torch.zeros(1),
            )
    buffer.compute_returns_and_advantage(value(episodes[-1].get_observations(-1)), dones=np.array([False]))

    batch = learner._make_batch_if_necessary(TrainingData(episodes=episodes))[DEFAULT_MODULE_ID]
    ours = batch[Postprocessing.ADVANTAGES].numpy()
    np.testing.assert_allclose(ours, buffer.advantages[:, 0], atol=1e-5)
    np.testing.assert_allclose(batch[Postprocessing.VALUE_TARGETS], buffer.returns[:, 0], atol=1e-5)
    assert abs(ours.mean()) > 1e-3  # not standardised


# --- entropy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
@pytest.mark.parametrize("budget", [None, 10_000])
def test_entropy_coefficient_falls_linearly_over_the_step_budget(
    algorithm: str, budget: int | None, point_env: Any, load_settings: Callable[..., Any]
) -> None:
    config = build_algorithm_config(load_settings(algorithm), env="unused", env_config={}, env_steps=budget)
    learner: Any = config.build_learner(env=point_env)
    steps = budget or 500_000
    values = []
    for share in (0, 0.25, 0.5, 1, 1.1):
        learner.before_gradient_based_update(timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: round(share * steps)})
        scheduler = learner.entropy_coeff_schedulers_per_module[DEFAULT_MODULE_ID]
        values.append(float(scheduler.get_current_value()))
    assert values == pytest.approx([0.01, 0.00775, 0.0055, 0.001, 0.001])
