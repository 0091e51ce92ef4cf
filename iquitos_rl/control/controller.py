"""One interface for everything that controls the site."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["ControlledEnv", "Controller", "NoControl"]


class ControlledEnv(Protocol):
    """What a controller may know of an environment before it acts."""

    @property
    def action_space(self) -> spaces.Box:
        """Bounds of the action."""

    @property
    def observation_space(self) -> spaces.Box:
        """Bounds of the observation."""

    @property
    def has_bess(self) -> bool:
        """Whether action 0 is the BESS."""

    @property
    def observation_layout(self) -> dict[str, object]:
        """Names of what the observation holds, in its order."""


class Controller(Protocol):
    """Decides the action of every hour.

    Attributes:
        name: what tables and files call it.
        mask_idle: whether the environment should drop the requests of idle sockets.
    """

    @property
    def name(self) -> str:
        """What tables and files call it."""

    @property
    def mask_idle(self) -> bool:
        """Whether the environment should drop the requests of idle sockets."""

    def prepare(self, env: ControlledEnv) -> None:
        """Called before an episode. Raises ValueError if the controller does not fit the environment."""

    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action for observations of shape (..., observations): shape (..., actions)."""


class NoControl:
    """Every socket asks its rated power, occupied or not, and the BESS rests.

    Requests of empty sockets count against the feeder, as they do where nothing coordinates the sockets, so
    every vehicle gets its static share of the limit. All scores are relative to this.
    """

    name = "no_control"
    mask_idle = False

    def prepare(self, env: ControlledEnv) -> None:
        """Take the shape of the environment's action."""
        self._action = env.action_space.high.copy()
        if env.has_bess:
            self._action[0] = 0.0

    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same action in every hour."""
        return np.broadcast_to(self._action, (*observation.shape[:-1], len(self._action)))
