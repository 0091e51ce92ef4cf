"""The five objectives and the score: one definition for training, the engines and the evaluation.

Every objective J is a sum over the hours of an episode, lower is better. ``score`` divides each J by its
value under no control on the same hours and weighs the ratios, so no control scores exactly 1. The step
reward is minus the weighted sum of the step's own increments, each divided by no control's mean per step,
so a no-control step averages -1. All functions are pure and work on arrays of any shape (..., hours or
environments), so that the CityLearn environment, a batch engine and the evaluation share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iquitos_rl.config.reward import OBJECTIVES, RewardWeights

__all__ = [
    "OBJECTIVES",
    "FlowIncrements",
    "NoControlReference",
    "objective_increments",
    "peak_rise_kw",
    "reward_factors",
    "satisfaction",
    "score",
    "step_reward",
    "unserved_energy_kwh",
]

FloatArray = NDArray[np.float64]

SOLAR_FLOOR_SHARE = 0.01
"""The solar divisor is at least this share of PV generation."""
EV_FLOOR_SHARE = 0.01
"""The EV divisor is at least this share of the number of departures."""
DIVISOR_FLOOR = 1e-6
"""No other divisor is smaller than this."""
TINY = 1e-300
"""Stands for an SOC of 0, so that 0 / 0 is 1."""


def satisfaction(soc: ArrayLike, required_soc: ArrayLike) -> FloatArray:
    """Satisfaction of departing vehicles: min(1, SOC / required SOC); a required SOC of 0 or NaN counts 1."""
    # fmax takes the other for a NaN; nothing divided by nothing is 1.
    soc = np.maximum(np.asarray(soc, dtype=np.float64), TINY)
    return np.minimum(1.0, soc / np.fmax(np.asarray(required_soc, dtype=np.float64), TINY))


def unserved_energy_kwh(soc: ArrayLike, required_soc: ArrayLike, capacity_kwh: ArrayLike) -> FloatArray:
    """Energy (kWh) that departing vehicles lack: max(0, required SOC - SOC) times battery capacity."""
    missing = np.asarray(required_soc, dtype=np.float64) - np.asarray(soc, dtype=np.float64)
    return np.fmax(missing, 0.0) * np.asarray(capacity_kwh, dtype=np.float64)  # a required SOC of NaN is none


def peak_rise_kw(grid_import_kw: ArrayLike, running_peak_kw: ArrayLike) -> FloatArray:
    """By how much this hour's import (kW) lifts the day's running peak (kW, 0 at the start of a day)."""
    return np.maximum(0.0, np.asarray(grid_import_kw, float) - np.asarray(running_peak_kw, float))


@dataclass(frozen=True)
class FlowIncrements:
    """What one hour (or many, as arrays) contributes to the objectives; kWh at the grid connection.

    Attributes:
        grid_import_kwh: max(0, net consumption).
        grid_export_kwh: max(0, -net consumption).
        storage_loss_kwh: what the BESS and vehicle-to-grid sockets took in, less what they gave out, less the
            change of what they hold.
        unserved_kwh: energy the vehicles that departed at the end of the hour lacked.
        shortfall: sum over those departures of (1 - satisfaction).
        peak_rise_kw: rise of the day's running import peak.
        carbon_intensity_kg_per_kwh: of the grid in this hour.
        price_usd_per_kwh: of import in this hour.
        unserved_kg_per_kwh: CO2 of a kWh that a vehicle drives on gasoline instead.
    """

    grid_import_kwh: ArrayLike
    grid_export_kwh: ArrayLike
    storage_loss_kwh: ArrayLike
    unserved_kwh: ArrayLike
    shortfall: ArrayLike
    peak_rise_kw: ArrayLike
    carbon_intensity_kg_per_kwh: ArrayLike
    price_usd_per_kwh: ArrayLike
    unserved_kg_per_kwh: ArrayLike


def objective_increments(flows: FlowIncrements) -> FloatArray:
    """Increments of the five objectives, shape (..., 5) in the order of `OBJECTIVES`.

    Units: kg CO2, kWh, USD, departures, kW.
    """
    imported = np.asarray(flows.grid_import_kwh, float)
    parts = (
        imported * np.asarray(flows.carbon_intensity_kg_per_kwh, float)
        + np.asarray(flows.unserved_kwh, float) * np.asarray(flows.unserved_kg_per_kwh, float),
        np.asarray(flows.grid_export_kwh, float) + np.asarray(flows.storage_loss_kwh, float),
        imported * np.asarray(flows.price_usd_per_kwh, float),
        np.asarray(flows.shortfall, float),
        np.asarray(flows.peak_rise_kw, float),
    )
    # Filled in rather than stacked: this is called in every step of training.
    shapes = {part.shape for part in parts}
    shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
    increments = np.empty((*shape, len(parts)))
    for number, part in enumerate(parts):
        increments[..., number] = part
    return increments


@dataclass(frozen=True)
class NoControlReference:
    """The objectives of no control over a number of hours: what the score and the reward divide by.

    Attributes:
        objectives: sum of each objective over the hours, in the order of `OBJECTIVES`. Means over several
            years are allowed (training divides by the mean over the training years).
        steps: number of hours summed over.
        pv_generation_kwh: over the same hours; 0 leaves the solar objective out.
        departures: over the same hours; 0 leaves the satisfaction objective out.
    """

    objectives: tuple[float, ...]
    steps: float
    pv_generation_kwh: float
    departures: float

    def __post_init__(self) -> None:
        if len(self.objectives) != len(OBJECTIVES):
            raise ValueError(f"expected {len(OBJECTIVES)} objectives, got {len(self.objectives)}")
        if self.steps <= 0:
            raise ValueError("a no-control reference needs at least one hour")

    @property
    def left_out(self) -> tuple[str, ...]:
        """Objectives that mean nothing here: solar without PV, satisfaction without departures."""
        absent = {"solar": self.pv_generation_kwh <= 0, "ev_satisfaction": self.departures <= 0}
        return tuple(name for name in OBJECTIVES if absent.get(name, False))

    @property
    def divisors(self) -> FloatArray:
        """The objectives with their floors, shape (5,)."""
        floors = np.array(
            [
                DIVISOR_FLOOR,
                max(SOLAR_FLOOR_SHARE * self.pv_generation_kwh, DIVISOR_FLOOR),
                DIVISOR_FLOOR,
                max(EV_FLOOR_SHARE * self.departures, DIVISOR_FLOOR),
                DIVISOR_FLOOR,
            ]
        )
        return np.maximum(np.asarray(self.objectives, float), floors)

    @property
    def divisors_per_step(self) -> FloatArray:
        """Divisors of one step's increments, shape (5,)."""
        return self.divisors / self.steps

    def effective_weights(self, weights: RewardWeights) -> FloatArray:
        """The weights, shape (5,); those of left-out objectives are shared by the others in proportion."""
        values = np.array(weights.as_tuple())
        values[[OBJECTIVES.index(name) for name in self.left_out]] = 0.0
        total = values.sum()
        if total <= 0:
            raise ValueError(
                "every objective with a weight is left out: the site has no "
                + " and no ".join({"solar": "PV", "ev_satisfaction": "departures"}[n] for n in self.left_out)
            )
        return values / total

    @classmethod
    def mean(cls, references: list[NoControlReference]) -> NoControlReference:
        """Mean over several years or windows, as training uses it."""
        if not references:
            raise ValueError("no references to average")
        count = len(references)
        sums = np.sum([r.objectives for r in references], axis=0)
        return cls(
            objectives=tuple(float(v) for v in sums / count),
            steps=sum(r.steps for r in references) / count,
            pv_generation_kwh=sum(r.pv_generation_kwh for r in references) / count,
            departures=sum(r.departures for r in references) / count,
        )

    def to_json(self) -> dict[str, object]:
        """Plain values for a JSON file or an RLlib env_config."""
        return {
            "objectives": dict(zip(OBJECTIVES, self.objectives, strict=True)),
            "steps": self.steps,
            "pv_generation_kwh": self.pv_generation_kwh,
            "departures": self.departures,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> NoControlReference:
        """The inverse of `to_json`. Raises KeyError if a value is missing."""
        objectives = data["objectives"]
        assert isinstance(objectives, Mapping)
        return cls(
            objectives=tuple(float(objectives[name]) for name in OBJECTIVES),
            steps=float(data["steps"]),  # type: ignore[arg-type]
            pv_generation_kwh=float(data["pv_generation_kwh"]),  # type: ignore[arg-type]
            departures=float(data["departures"]),  # type: ignore[arg-type]
        )


def reward_factors(reference: NoControlReference, weights: RewardWeights) -> FloatArray:
    """What increments are multiplied by to give components of the reward, shape (5,)."""
    return -reference.effective_weights(weights) / reference.divisors_per_step


def step_reward(increments: ArrayLike, reference: NoControlReference, weights: RewardWeights) -> FloatArray:
    """Reward components of steps, shape (..., 5); their sum over the last axis is the reward.

    Minus weight times increment divided by no control's mean increment per step.
    """
    return np.asarray(increments, float) * reward_factors(reference, weights)


def score(
    objectives: ArrayLike, reference: NoControlReference, weights: RewardWeights
) -> tuple[float, dict[str, float]]:
    """Score of an episode's objectives (shape (5,)) and its components, whose weighted ratios sum to it.

    ``reference`` must cover the same hours as ``objectives``. Lower is better; no control scores 1.
    """
    components = reference.effective_weights(weights) * np.asarray(objectives, float) / reference.divisors
    return float(components.sum()), {n: float(c) for n, c in zip(OBJECTIVES, components, strict=True)}
