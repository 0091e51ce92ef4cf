"""A small control task with a known optimum."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

__all__ = ["STEP_SIZE", "PointEnv", "best_actions"]

STEP_SIZE = 0.2
"""How far action 1.0 moves the point."""


class PointEnv(gym.Env[np.ndarray, np.ndarray]):
    """A point on a line to be driven to 0.

    Observation: position, and the share of the episode that is over. Action: [0] step in [-1, 1], a fifth of
    it is taken; [1] in [0, 1], costs its square. Reward: -(position^2) - action[1]^2 / 10. Truncated after
    `episode_steps`; terminated, if `terminates`, beyond |position| > 2.

    As it is, the action of highest reward is the best one, whatever comes after. If `delayed`, a step is
    taken one time step after it was chosen, the one to come is a third observation, and the reward of an
    action says nothing about it: what it was good for shows in the rewards and values that follow.
    """

    def __init__(self, config: dict[str, Any] | None = None):
        config = config or {}
        self.episode_steps = config.get("episode_steps", 20)
        self.terminates = config.get("terminates", False)
        self.delayed = config.get("delayed", False)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3 if self.delayed else 2,), np.float32)
        self.action_space = gym.spaces.Box(np.array([-1, 0], np.float32), np.array([1, 1], np.float32))
        self._position = 0.0
        self._to_come = 0.0
        self._step = 0

    def _observation(self) -> np.ndarray:
        observation = [self._position, self._step / self.episode_steps]
        return np.array([*observation, self._to_come] if self.delayed else observation, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._position = float(self.np_random.uniform(-1, 1))
        self._to_come = 0.0
        self._step = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action} is out of bounds"
        chosen = float(action[0])
        taken, self._to_come = (self._to_come, chosen) if self.delayed else (chosen, 0.0)
        self._position += STEP_SIZE * taken
        self._step += 1
        reward = -(self._position**2) - 0.1 * float(action[1]) ** 2
        terminated = self.terminates and abs(self._position) > 2
        return self._observation(), reward, terminated, self._step >= self.episode_steps, {}


def best_actions(observations: np.ndarray) -> np.ndarray:
    """Actions of highest return: straight to 0 as far as a step reaches, and nothing of the second action.

    Every step costs the square of where it ends, from a nearer point no later one is farther than from a
    farther one, and no start lies beyond |position| = 1 (tests compare it with dynamic programming).

    Args:
        observations: shape (N, 2), or (N, 3) with delay.

    Returns:
        Actions within the environment's bounds, shape (N, 2).
    """
    there = observations[:, 0]
    if observations.shape[1] == 3:
        there = there + STEP_SIZE * observations[:, 2]
    steps = np.clip(-there / STEP_SIZE, -1.0, 1.0)
    return np.stack((steps, np.zeros_like(steps)), axis=1).astype(np.float32)
