"""The reference engine: the years of a site, each a `CityLearnSite` that is loaded when it is first used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.env.citylearn_site import CityLearnSite
from iquitos_rl.env.no_control import unserved_factor
from iquitos_rl.env.observation import FeatureLayout, SiteState, SocketState, feature_vector, idle_sockets
from iquitos_rl.env.situation import Situation
from iquitos_rl.objectives import NoControlReference

__all__ = ["CityLearnYears"]


class CityLearnYears:
    """A `Simulator` that is CityLearn itself.

    Args:
        schemas: one for each year.
        raw: whether CityLearn's own observation is wanted.
        weights: of the objectives.
        reference: no-control values that the reward divides by.

    Raises:
        ValueError: as `CityLearnSite`, or years with different sockets.
    """

    def __init__(
        self, schemas: Sequence[Path], *, raw: bool, weights: RewardWeights, reference: NoControlReference
    ) -> None:
        self._schemas = tuple(schemas)
        self._raw = raw
        self._weights = weights
        self._reference = reference
        self._sites: dict[int, CityLearnSite] = {}
        self.site = self._load(0)
        """The CityLearn district of the present year."""
        self.rows = (self.site.rows,) * len(self._schemas)
        self.has_bess = self.site.has_bess
        self.socket_names = self.site.socket_names
        self.may_discharge = self.site.v2g
        self.plant = self.site.plant
        self._layout = FeatureLayout(self.socket_names)

    def _load(self, year: int) -> CityLearnSite:
        if year not in self._sites:
            schema = self._schemas[year]
            reward = {
                "weights": self._weights,
                "reference": self._reference,
                "unserved_kg_per_kwh": unserved_factor(schema),
            }
            site = CityLearnSite(schema, reward, raw=self._raw)
            first = next(iter(self._sites.values()), site)
            if (site.socket_names, site.rows) != (first.socket_names, first.rows):
                raise ValueError(f"{schema}: other sockets, or another number of rows, than {first.schema}")
            self._sites[year] = site
        return self._sites[year]

    @property
    def reference(self) -> NoControlReference:
        """No-control values that the reward divides by."""
        return self._reference

    @reference.setter
    def reference(self, reference: NoControlReference) -> None:
        self._reference = reference
        for site in self._sites.values():
            site.reward.reference = reference

    @property
    def raw_names(self) -> list[str]:
        """Names of CityLearn's own observations."""
        return self.site.raw_names

    def reset(self, year: int, start: int, steps: int) -> None:
        """Go to a window of a year."""
        self.site = self._load(year)
        self.site.reset(start, steps)

    def observe(self) -> NDArray[np.float32]:
        """The observation of the present hour."""
        self._sockets, self._state = self.site.socket_state(), self.site.site_state()
        if self._raw:
            self._observation = self.site.raw_observation
        else:
            self._observation = feature_vector(
                self._state, self._sockets, self.site.scales, self._layout, self._layout.bounds
            )
        return self._observation.copy()  # what callers do to theirs is not seen by `situation`

    def situation(self) -> Situation:
        """The present hour, as of the last `observe`, with a leading axis of one."""
        site = SiteState(**{name: np.asarray(value)[None] for name, value in vars(self._state).items()})
        sockets = SocketState(**{name: value[None] for name, value in vars(self._sockets).items()})
        return Situation(site, sockets, lambda: self._observation[None])

    def idle(self) -> NDArray[np.bool_]:
        """Sockets without a vehicle that has room, as of the last `observe`."""
        return idle_sockets(self._sockets)

    def step(self, request: NDArray[np.float64]) -> float:
        """Simulate the present hour with these actions; returns its reward."""
        return self.site.step(request)

    def reward_components(self) -> dict[str, float]:
        """The last hour's reward by objective."""
        return self.site.reward.component_dict()

    def flows(self) -> dict[str, Any]:
        """Energy flows of the last hour."""
        return self.site.flows()

    def end_soc(self) -> NDArray[np.float64]:
        """States of charge at the end of the hour just simulated, shape (sockets,)."""
        return self.site.end_soc()

    def bess_stored_kwh(self) -> float:
        """Energy in the BESS at the start of the window, or at the end of the hour just simulated."""
        return self.site.bess_stored_kwh(max(self.site.t - 1, 0))
