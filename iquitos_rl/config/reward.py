"""The reward YAML: the weights of the five objectives, shared by every algorithm."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from iquitos_rl.config.base import NonNegative, StrictModel

__all__ = ["OBJECTIVES", "RewardWeights"]

OBJECTIVES = ("co2", "solar", "cost", "ev_satisfaction", "grid_stability")
"""Names of the objectives, in the order of every array and table of them."""


class RewardWeights(StrictModel):
    """How much each objective counts. Non-negative, and they sum to 1."""

    co2_weight: NonNegative = 0.50
    solar_weight: NonNegative = 0.20
    cost_weight: NonNegative = 0.15
    ev_satisfaction_weight: NonNegative = 0.10
    grid_stability_weight: NonNegative = 0.05

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = sum(self.as_tuple())
        if abs(total - 1.0) > 1e-6:
            values = ", ".join(f"{name}_weight {getattr(self, f'{name}_weight'):g}" for name in OBJECTIVES)
            raise ValueError(f"the five weights must sum to 1, they sum to {total:g} ({values})")
        return self

    def as_tuple(self) -> tuple[float, ...]:
        """The weights in the order of `OBJECTIVES`."""
        return tuple(float(getattr(self, f"{name}_weight")) for name in OBJECTIVES)
