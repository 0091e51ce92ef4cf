"""What the programme minimises: prices of import, surplus, unserved energy, dissatisfaction and peaks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.control.optimum.window import SiteWindow
from iquitos_rl.objectives import OBJECTIVES, NoControlReference

__all__ = ["Goal", "import_goal", "score_goal"]

FloatArray = NDArray[np.float64]

WAITING_SHARE = 1e-6


@dataclass(frozen=True)
class Goal:
    """Prices, in one unit of the goal's own (the score's, or kWh of import).

    Attributes:
        import_price: of a kWh from the grid, shape (T,).
        surplus_price: of a kWh exported, or lost in the BESS; of every hour, shape (T,), or the same in all.
        unserved_price: of a kWh that a departing vehicle lacks.
        shortfall_price: of a departure without any satisfaction.
        peak_price: of a kW of a day's peak import.
        stored_value: of a kWh in the BESS at the end.
        waiting_share: a kWh that a vehicle draws costs this share of a mean kWh of import more for every hour
            that it waited. Breaks ties: the earlier the better.
    """

    import_price: FloatArray
    surplus_price: FloatArray | float = 0.0
    unserved_price: float = 0.0
    shortfall_price: float = 0.0
    peak_price: float = 0.0
    stored_value: float = 0.0
    waiting_share: float = WAITING_SHARE

    def __post_init__(self) -> None:
        for name in ("import_price", "surplus_price", "unserved_price", "shortfall_price", "peak_price"):
            if np.any(np.asarray(getattr(self, name)) < 0):
                raise ValueError(f"{name} below 0: the site would buy what it does not use; check the tariff")

    @property
    def unit(self) -> float:
        """The scale of all prices: a mean kWh of import, where it has a price."""
        energy = float(np.mean(self.import_price) + np.mean(self.surplus_price))
        # Solvers have absolute tolerances, so a goal without a price of energy needs a scale as well.
        prices = (energy, self.unserved_price, self.shortfall_price, self.peak_price)
        return next((price for price in prices if price > 0), 1.0)

    def part(self, first: int, last: int) -> Goal:
        """The goal of some of the hours."""
        return replace(
            self,
            import_price=self.import_price[first:last],
            surplus_price=np.broadcast_to(
                np.asarray(self.surplus_price, np.float64), self.import_price.shape
            )[first:last],
        )

    def sooner(self, discount_per_hour: float) -> Goal:
        """The goal with later energy a little cheaper, so that what can be used now is not put off.

        For plans that will be made anew: what is put off on the strength of a forecast may not come.

        Args:
            discount_per_hour: share of the price of a kWh by which it falls with every hour. Vehicles wait no
                longer for it: `waiting_share` outweighs it.
        """
        factor = (1.0 - discount_per_hour) ** np.arange(len(self.import_price))
        return replace(
            self,
            import_price=self.import_price * factor,
            surplus_price=np.asarray(self.surplus_price, np.float64) * factor,
            waiting_share=2.0 * discount_per_hour,
        )


def score_goal(window: SiteWindow, reference: NoControlReference, weights: RewardWeights) -> Goal:
    """The score: the five objectives, each weighted and divided by its value under no control."""
    factors = reference.effective_weights(weights) / reference.divisors
    co2, solar, cost, ev, grid = (float(factors[OBJECTIVES.index(name)]) for name in OBJECTIVES)
    return Goal(
        import_price=co2 * window.carbon_kg_per_kwh + cost * window.price_usd_per_kwh,
        surplus_price=solar,
        unserved_price=co2 * window.unserved_kg_per_kwh,
        shortfall_price=ev,
        peak_price=grid,
    )


def import_goal(window: SiteWindow, shortfall_price_kwh: float) -> Goal:
    """Import alone (kWh), with a price (kWh) of a departure without any satisfaction."""
    return Goal(import_price=np.ones(window.hours), shortfall_price=shortfall_price_kwh)
