"""Fixtures for the algorithms: a small environment, settings from the shipped YAML, one Ray for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter
from ray.tune.registry import register_env

from iquitos_rl.config.algorithm import AlgorithmSettings

SETTINGS = Path(__file__).parents[2] / "ray_configs" / "algorithms"
ENV = "iquitos_rl_tests/Point"


class PointEnv(gym.Env[np.ndarray, np.ndarray]):
    """A point on a line to be driven to 0.

    Observation: position, and the share of the episode that is over. Action: [0] step in [-1, 1], a fifth of
    it is taken; [1] in [0, 1], costs its square. Reward: -(position^2) - action[1]^2 / 10. Truncated after
    `episode_steps`; terminated, if `terminates`, beyond |position| > 2.
    """

    def __init__(self, config: dict[str, Any] | None = None):
        config = config or {}
        self.episode_steps = config.get("episode_steps", 20)
        self.terminates = config.get("terminates", False)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gym.spaces.Box(np.array([-1, 0], np.float32), np.array([1, 1], np.float32))
        self._position = 0.0
        self._step = 0

    def _observation(self) -> np.ndarray:
        return np.array([self._position, self._step / self.episode_steps], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._position = float(self.np_random.uniform(-1, 1))
        self._step = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action} is out of bounds"
        self._position += 0.2 * float(action[0])
        self._step += 1
        reward = -(self._position**2) - 0.1 * float(action[1]) ** 2
        terminated = self.terminates and abs(self._position) > 2
        return self._observation(), reward, terminated, self._step >= self.episode_steps, {}


@pytest.fixture
def point_env() -> PointEnv:
    return PointEnv()


@pytest.fixture
def settings_dict() -> Callable[[str], dict[str, Any]]:
    """The shipped YAML of an algorithm, as a dict that may be changed."""

    def load(name: str) -> dict[str, Any]:
        return yaml.safe_load((SETTINGS / f"{name}.yaml").read_text())

    return load


@pytest.fixture
def load_settings(settings_dict: Callable[[str], dict[str, Any]]) -> Callable[..., Any]:
    """The settings of an algorithm, from the shipped YAML with some values replaced."""

    def load(name: str, **changes: Any) -> Any:
        return TypeAdapter(AlgorithmSettings).validate_json(json.dumps(settings_dict(name) | changes))

    return load


@pytest.fixture(scope="session")
def ray_session() -> Iterator[str]:
    """A local Ray; returns the name under which the point environment is registered."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    register_env(ENV, PointEnv)
    yield ENV
    ray.shutdown()
