"""Generalised advantages: by hand, as Stable-Baselines3's buffer, and as RLlib's own pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig as RLlibPPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.evaluation.postprocessing import Postprocessing
from stable_baselines3.common.buffers import RolloutBuffer

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.algorithms.advantages import generalised_advantages
from tests.algorithms.fragments import episodes_of, random_fragment, single, sorted_rows


@pytest.mark.parametrize(
    ("terminated", "expected"),
    [
        # delta_1 = 1 + 0.5 x 4 - 2 = 1, delta_0 = 1 + 0.5 x 2 - 1 = 1, A_0 = 1 + 0.25 x 1
        (False, [1.25, 1.0]),
        # delta_1 = 1 - 2 = -1, A_0 = 1 + 0.25 x (-1)
        (True, [0.75, -1.0]),
    ],
)
def test_a_hand_made_episode(terminated: bool, expected: list[float]) -> None:
    """Two steps with values 1 and 2, reward 1 each; behind them an observation of value 4."""
    fragment = single(rewards=[1.0, 1.0], terminated=[False, terminated], truncated=[False, not terminated])
    values = np.array([[1.0], [2.0], [4.0]], np.float32)
    advantages = generalised_advantages(fragment, values, gamma=0.5, lambda_=0.5)
    assert advantages[:, 0].tolist() == pytest.approx(expected)


def test_nothing_leaks_from_the_next_episode() -> None:
    """A truncated step, the row of the reset, and a step of the next episode."""
    fragment = single(
        rewards=[1.0, 0.0, 100.0],
        truncated=[True, False, False],
        terminated=[False] * 3,
        real=[True, False, True],
    )
    values = np.array([[1.0], [4.0], [50.0], [60.0]], np.float32)
    advantages = generalised_advantages(fragment, values, gamma=0.5, lambda_=0.5)[:, 0]
    assert advantages.tolist() == pytest.approx([1.0 + 0.5 * 4.0 - 1.0, 0.0, 100.0 + 0.5 * 60.0 - 50.0])


@pytest.mark.parametrize("gae_lambda", [1.0, 0.95, 0.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_to_the_stock_pipeline(
    gae_lambda: float, seed: int, point_env: Any, load_settings: Callable[..., Any]
) -> None:
    """Value targets and advantages of RLlib's connectors, which standardises the latter over the rollout."""
    gamma = 0.97
    fragment: Any = random_fragment(seed, steps=40, environments=5, observation=2, action=2)
    settings = load_settings("ppo", gamma=gamma, gae_lambda=gae_lambda, hidden=[8], n_steps=256)
    ours: Any = build_algorithm_config(settings, env="unused", env_config={}, seed=3).build_learner(
        env=point_env
    )
    model = DefaultModelConfig(
        fcnet_hiddens=[8],
        fcnet_activation="tanh",
        head_fcnet_hiddens=[],
        vf_share_layers=False,
        free_log_std=True,
    )
    stock_config = RLlibPPOConfig().training(gamma=gamma, lambda_=gae_lambda).rl_module(model_config=model)
    stock: Any = stock_config.build_learner(env=point_env)
    stock.module[DEFAULT_MODULE_ID].load_state_dict(ours.module[DEFAULT_MODULE_ID].state_dict())

    mine = ours._make_batch_if_necessary(TrainingData(episodes=[fragment]))[DEFAULT_MODULE_ID]
    episodes: Any = episodes_of(fragment)
    theirs = stock._make_batch_if_necessary(TrainingData(episodes=episodes))[DEFAULT_MODULE_ID]
    real = theirs[Columns.LOSS_MASK]
    key = (Columns.OBS, Columns.ACTIONS, Columns.ACTION_LOGP, Postprocessing.VALUE_TARGETS)
    np.testing.assert_allclose(
        sorted_rows(*(mine[name] for name in key)),
        sorted_rows(*(theirs[name][real] for name in key)),
        atol=1e-5,
    )
    advantages = mine[Postprocessing.ADVANTAGES].numpy()
    standardised = (advantages - advantages.mean()) / advantages.std()
    np.testing.assert_allclose(
        np.sort(standardised),
        np.sort(_standardised(theirs[Postprocessing.ADVANTAGES][real].numpy())),
        atol=1e-5,
    )
    assert len(mine[Columns.OBS]) == len(fragment)


def _standardised(advantages: np.ndarray) -> np.ndarray:
    return (advantages - advantages.mean()) / advantages.std()


@pytest.mark.parametrize("gae_lambda", [1.0, 0.95])
def test_equal_to_stable_baselines3(
    gae_lambda: float, point_env: Any, load_settings: Callable[..., Any]
) -> None:
    """Its rollout buffer has no rows of resets, and has the bootstrap of truncated steps in their rewards."""
    gamma, steps, environments = 0.97, 30, 3
    fragment: Any = random_fragment(4, steps=steps, environments=environments, observation=2, action=2)
    settings = load_settings("a2c", gamma=gamma, gae_lambda=gae_lambda, hidden=[8], n_steps=256)
    learner: Any = build_algorithm_config(settings, env="unused", env_config={}, seed=3).build_learner(
        env=point_env
    )
    module: Any = learner.module[DEFAULT_MODULE_ID].unwrapped()
    with torch.no_grad():
        flat = torch.from_numpy(fragment.observations.reshape(-1, 2))
        values = module.compute_values({Columns.OBS: flat}).numpy().reshape(steps + 1, environments)
    expected = np.zeros((steps, environments), np.float32)
    for n in range(environments):
        rows = np.flatnonzero(fragment.real[:, n])
        buffer = RolloutBuffer(
            len(rows), point_env.observation_space, point_env.action_space, "cpu", gae_lambda, gamma
        )
        starts = True
        for t in rows:
            reward = fragment.rewards[t, n]
            if fragment.truncated[t, n]:
                reward += gamma * values[t + 1, n]  # as its collect_rollouts does
            buffer.add(
                fragment.observations[t, n],
                fragment.actions[t, n],
                np.array([reward]),
                np.array([starts]),
                torch.tensor(values[t, n]),
                torch.zeros(1),
            )
            starts = bool(fragment.terminated[t, n] or fragment.truncated[t, n])
        last = torch.tensor([values[rows[-1] + 1, n]])
        buffer.compute_returns_and_advantage(last, dones=np.array([starts]))
        expected[rows, n] = buffer.advantages[:, 0]
    ours = generalised_advantages(fragment, values, gamma, gae_lambda)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    batch = learner._make_batch_if_necessary(TrainingData(episodes=[fragment]))[DEFAULT_MODULE_ID]
    np.testing.assert_allclose(batch[Postprocessing.ADVANTAGES], expected[fragment.real], atol=1e-5)
    assert abs(ours.mean()) > 1e-3  # not standardised
