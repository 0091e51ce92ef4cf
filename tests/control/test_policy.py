"""A saved policy acts exactly as RLlib's own inference path does, and survives saving bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.tune.registry import register_env

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.algorithms.policy import Policy, inference_module, load_policy, save_policy
from tests.training.policies import feature_spaces, random_state, small_settings
from tests.training.small_run import RLLIB_WARNING

ENV = "iquitos_rl_tests/Bounds"
LOW = np.array([-1.0, 0.0, 0.0, -1.0, -0.25], np.float32)
HIGH = np.array([1.0, 1.0, 0.5, 1.0, 3.0], np.float32)
ALGORITHMS = ("a2c", "ppo", "sac")


OBSERVATIONS = spaces.Box(-np.inf, np.inf, (6,), np.float32)
ACTIONS = spaces.Box(LOW, HIGH, dtype=np.float32)


class BoundsEnv(gym.Env[np.ndarray, np.ndarray]):
    """Five actions of different bounds, as a BESS, sockets and V2G sockets have them; nothing happens."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.observation_space = OBSERVATIONS
        self.action_space = ACTIONS

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(6, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(6, np.float32), 0.0, False, True, {}


@pytest.fixture
def observations() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 2, (40, 6)).astype(np.float32)


@pytest.fixture(params=ALGORITHMS)
def trained(request: pytest.FixtureRequest, small_ray: None) -> Iterator[tuple[Any, Any]]:
    """Settings and an RLlib algorithm whose weights send many actions beyond the bounds."""
    settings = small_settings(request.param)
    register_env(ENV, BoundsEnv)
    algorithm = build_algorithm_config(settings, env=ENV, env_config={}, seed=1).build_algo()
    runner = algorithm.env_runner
    runner.module.set_state(random_state(runner.module, seed=2))
    yield settings, runner
    algorithm.stop()


def rllib_actions(runner: Any, observations: np.ndarray) -> np.ndarray:
    """What RLlib's env runner would send to its environments with ``explore=False``."""
    episodes = []
    for observation in observations:
        episode = SingleAgentEpisode(
            observation_space=runner.env.single_observation_space,
            action_space=runner.env.single_action_space,
        )
        episode.add_env_reset(observation=observation)
        episodes.append(episode)
    common = {"rl_module": runner.module, "episodes": episodes, "explore": False, "shared_data": {}}
    to_module = runner._env_to_module(batch={}, **common)
    to_env = runner._module_to_env(batch=runner.module.forward_inference(to_module), **common)
    return np.asarray(to_env.get(Columns.ACTIONS_FOR_ENV, to_env[Columns.ACTIONS]))


@pytest.mark.integration
@pytest.mark.filterwarnings(RLLIB_WARNING)
def test_acts_as_rllib_does(trained: tuple[Any, Any], observations: np.ndarray, tmp_path: Path):
    settings, runner = trained
    state = runner.module.get_state(inference_only=True)
    save_policy(tmp_path, state, settings, OBSERVATIONS, ACTIONS, {})
    policy = load_policy(tmp_path)
    expected = rllib_actions(runner, observations)

    batch = policy.act(observations)
    singles = np.stack([policy.act(observation) for observation in observations])
    assert batch.shape == (40, 5)
    assert batch == pytest.approx(expected, abs=1e-6)
    assert singles == pytest.approx(expected, abs=1e-6)
    assert policy.act(observations.reshape(4, 10, 6)).reshape(40, 5) == pytest.approx(batch, abs=1e-6)
    # the comparison reaches the bounds, and is not one of constants
    assert ((batch == LOW) | (batch == HIGH)).mean() > 0.02
    assert (batch.std(axis=0) > 0.05).all()


def policy_of(algorithm: str, scale: float = 0.5) -> tuple[Policy, dict[str, np.ndarray]]:
    settings = small_settings(algorithm)
    observation, action = feature_spaces(4)
    module = inference_module(settings, observation, action)
    state = random_state(module, seed=5, scale=scale)
    module.set_state(state)
    module.eval()
    return Policy(settings, module, observation, action), state


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_actions_stay_within_the_bounds_however_large_the_outputs(algorithm: str):
    policy, _ = policy_of(algorithm, scale=50.0)
    observations = np.random.default_rng(0).uniform(-2, 2, (200, 50)).astype(np.float32)
    actions = policy.act(observations)
    assert actions.dtype == np.float32
    assert (actions >= policy.action_space.low).all()
    assert (actions <= policy.action_space.high).all()
    assert (actions == policy.action_space.high).any()
    assert (actions == policy.action_space.low).any()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_acting_is_deterministic_and_leaves_the_observation_alone(algorithm: str):
    policy, _ = policy_of(algorithm)
    observation = np.linspace(-1, 1, 50, dtype=np.float32)
    before = observation.copy()
    torch.manual_seed(0)
    first = policy.act(observation)
    torch.manual_seed(1)
    assert np.array_equal(policy.act(observation), first)
    assert np.array_equal(observation, before)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_saving_and_loading_changes_no_bit(algorithm: str, tmp_path: Path):
    policy, state = policy_of(algorithm)
    origin = {"experiment": "x", "env_steps": 17, "layout": {"names": ["a", "b"]}}
    save_policy(tmp_path, state, policy.settings, policy.observation_space, policy.action_space, origin)
    loaded = load_policy(tmp_path)

    weights, again = policy.module.state_dict(), loaded.module.state_dict()
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    observations = np.random.default_rng(0).normal(size=(20, 50)).astype(np.float32)
    assert np.array_equal(policy.act(observations), loaded.act(observations))
    assert loaded.settings == policy.settings
    assert loaded.origin == origin
    assert np.array_equal(loaded.action_space.low, policy.action_space.low)
    assert np.array_equal(loaded.action_space.high, policy.action_space.high)


def test_what_is_saved_does_not_follow_later_training(tmp_path: Path):
    policy, state = policy_of("ppo")
    save_policy(tmp_path, state, policy.settings, policy.observation_space, policy.action_space, {})
    before = {name: value.copy() for name, value in state.items()}
    for value in state.values():
        value += 1.0
    loaded = load_policy(tmp_path).module.state_dict()
    assert all(np.array_equal(loaded[name].numpy(), before[name]) for name in before)
