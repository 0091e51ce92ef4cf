"""A trained policy as a controller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.algorithms.policy import Policy
from iquitos_rl.control.controller import ControlledEnv

__all__ = ["TrainedPolicy"]


class TrainedPolicy:
    """Acts by the mode of a trained policy.

    Args:
        policy: the policy.
        source: the folder it was loaded from.
    """

    def __init__(self, policy: Policy, source: Path) -> None:
        self.policy = policy
        self.source = source
        self.name = policy.settings.algorithm
        self.mask_idle = bool(policy.origin.get("mask_idle", True))
        self.observation = str(policy.origin.get("observation", "features"))

    def prepare(self, env: ControlledEnv) -> None:
        """Check that the policy was trained for such a site. Raises ValueError."""
        for what, space, own in (
            ("observations", env.observation_space, self.policy.observation_space),
            ("actions", env.action_space, self.policy.action_space),
        ):
            if space.shape != own.shape:
                raise ValueError(
                    f"{self.source}: trained for {own.shape[0]} {what}, this site has {space.shape[0]}"
                )
        layout = self.policy.origin.get("layout")
        if layout is not None and layout != env.observation_layout:
            raise ValueError(f"{self.source}: trained for another observation: {_difference(layout, env)}")

    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The deterministic action."""
        return self.policy.act(observation)


def _difference(layout: Mapping[str, Any], env: ControlledEnv) -> str:
    for part, names in env.observation_layout.items():
        own = layout.get(part)
        if own != names:
            pairs = zip(own or [], names, strict=False)  # type: ignore[call-overload]
            first = next(((a, b) for a, b in pairs if a != b), (own, names))
            return f"{part} has {first[0]!r} where this site has {first[1]!r}"
    return "its parts have other names"
