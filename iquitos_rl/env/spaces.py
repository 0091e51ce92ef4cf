"""The spaces of a site's environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from iquitos_rl.env.observation import FeatureLayout

__all__ = ["action_space", "observation_space"]


class _Site(Protocol):
    @property
    def has_bess(self) -> bool: ...

    @property
    def may_discharge(self) -> NDArray[np.bool_]: ...


def action_space(site: _Site) -> spaces.Box:
    """The BESS in [-1, 1], if there is one, and each socket in [0, 1], or [-1, 1] if it may discharge."""
    bess = [-1.0] if site.has_bess else []
    low = np.concatenate([bess, np.where(site.may_discharge, -1.0, 0.0)]).astype(np.float32)
    return spaces.Box(low, np.ones_like(low), dtype=np.float32)


def observation_space(layout: FeatureLayout, names: Sequence[str], kind: str) -> spaces.Box:
    """Bounds of the features; CityLearn's own observation is unbounded, since its bounds are estimates."""
    if kind == "raw":
        return spaces.Box(-np.inf, np.inf, (len(names),), dtype=np.float32)
    return spaces.Box(*layout.bounds, dtype=np.float32)
