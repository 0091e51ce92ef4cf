"""A trained policy as a controller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.algorithms.policy import Policy
from iquitos_rl.control.controller import Kind, UnsuitableError
from iquitos_rl.env.episodes import Observation
from iquitos_rl.env.situation import Episode, Situation

__all__ = ["TrainedPolicy"]


class TrainedPolicy:
    """Acts by the mode of a trained policy.

    Args:
        policy: the policy.
        source: the folder it was loaded from.
    """

    memoryless = True
    kind: Kind = "agent"

    def __init__(self, policy: Policy, source: Path) -> None:
        self.policy = policy
        self.source = source
        self.name = policy.settings.algorithm
        self.settings = policy.settings.model_dump(mode="json")
        self.mask_idle = bool(policy.origin.get("mask_idle", True))
        self.observation: Observation = policy.origin.get("observation", "features")

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the policy is from, for a result file: experiment, seed, environment steps, validation."""
        origin = self.policy.origin
        return {
            "experiment": origin.get("experiment"),
            "seed": origin.get("seed"),
            "policy": str(self.source),
            "policy_env_steps": origin.get("env_steps"),
            "validation": origin.get("validation"),
            "trained_with": origin.get("versions"),
        }

    def prepare(self, episode: Episode) -> None:
        """Check that the policy was trained for such a site. Raises UnsuitableError."""
        for what, space, own in (
            ("observations", episode.observation_space, self.policy.observation_space),
            ("actions", episode.action_space, self.policy.action_space),
        ):
            if space.shape != own.shape:
                raise UnsuitableError(
                    f"{self.source}: trained for {own.shape[0]} {what}, this site has {space.shape[0]}"
                )
        layout = self.policy.origin.get("layout")
        if layout is not None and layout != episode.observation_layout:
            raise UnsuitableError(
                f"{self.source}: trained for another observation: {_difference(layout, episode)}"
            )

    def act(self, situation: Situation) -> NDArray[np.float32]:
        """The deterministic actions."""
        return self.policy.act(situation.observation)


def _difference(layout: Mapping[str, Any], episode: Episode) -> str:
    for part, names in episode.observation_layout.items():
        own = layout.get(part)
        if own != names:
            pairs = zip(own or [], names, strict=False)  # type: ignore[call-overload]
            first = next(((a, b) for a, b in pairs if a != b), (own, names))
            return f"{part} has {first[0]!r} where this site has {first[1]!r}"
    return "its parts have other names"
