"""One interface for everything that controls the site."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.episodes import Observation
from iquitos_rl.env.situation import Episode, Situation

__all__ = ["Controller", "Kind", "RandomControl", "UnsuitableError"]

Kind = Literal["rule", "agent", "optimum"]
"""What decides: a program, a trained policy, or foresight that no one has."""


class UnsuitableError(ValueError):
    """A controller that cannot control this site; the text says why in one line."""


class Controller(Protocol):
    """Decides the action of every hour, of one site or of many at once."""

    @property
    def name(self) -> str:
        """What tables and files call it."""

    @property
    def kind(self) -> Kind:
        """What decides."""

    @property
    def mask_idle(self) -> bool:
        """Whether the environment should drop the requests of idle sockets."""

    @property
    def observation(self) -> Observation | None:
        """The observation it reads; None if it needs none but the situation's own quantities."""

    @property
    def memoryless(self) -> bool:
        """Whether an action follows from its hour's situation alone, whatever hours it has seen before.

        The days of a year can then be simulated side by side, with the same result.
        """

    @property
    def settings(self) -> dict[str, Any]:
        """What it was set to, as plain values for a result file."""

    def prepare(self, episode: Episode) -> None:
        """Called before an episode. Raises UnsuitableError if the controller does not fit it."""

    def act(self, situation: Situation) -> NDArray[np.floating[Any]]:
        """The actions, shape (sites, actions); values outside the action space are clipped to it."""


class RandomControl:
    """Actions drawn evenly from the whole action space: the floor that anything should beat.

    Args:
        seed: of the draws; an hour of the year has its action, whatever was simulated before it.
    """

    name = "random"
    kind: Kind = "rule"
    mask_idle = True
    observation = None
    memoryless = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.settings = {"seed": seed}

    def prepare(self, episode: Episode) -> None:
        """Draw the actions of the episode's hours."""
        space = episode.action_space
        random = np.random.default_rng(self.seed)
        hours = episode.start_step + episode.steps
        self._actions = random.uniform(space.low, space.high, (hours, *space.shape)).astype(np.float32)

    def act(self, situation: Situation) -> NDArray[np.floating[Any]]:
        """The action of each site's hour of the year."""
        return self._actions[situation.site.hour_of_year.astype(np.intp)]
