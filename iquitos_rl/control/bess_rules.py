"""Rules for the BESS: what to do with the site's surplus, and when to give it back.

Each gives the power (kW, + charges) of the BESS at some sites, shape (sites,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.situation import Plant, Situation

__all__ = [
    "BESS_RULES",
    "BessRule",
    "absorbable_kw",
    "bess_held_kwh",
    "bess_room_kwh",
    "deliverable_kw",
    "shaved_level_kw",
]

Float = NDArray[np.floating[Any]]
BessRule = Callable[[Situation, Plant, Float], Float]
"""From the situation, the plant and the site's net consumption without the BESS (kW) to its power."""


def bess_room_kwh(situation: Situation, plant: Plant) -> Float:
    """What the BESS must be given to be full, shape (sites,); zeros without one."""
    bess = plant.bess
    if bess is None:
        return np.zeros(situation.count)
    return np.maximum(1.0 - situation.site.bess_soc, 0.0) * bess.capacity_kwh / bess.one_way_efficiency


def bess_held_kwh(situation: Situation, plant: Plant) -> Float:
    """What the BESS can give until it is at its floor, shape (sites,); zeros without one."""
    bess = plant.bess
    if bess is None:
        return np.zeros(situation.count)
    above = np.maximum(situation.site.bess_soc - bess.floor_soc, 0.0)
    return above * bess.capacity_kwh * bess.one_way_efficiency


def absorbable_kw(situation: Situation, plant: Plant) -> Float:
    """The most that the BESS can take in this hour, shape (sites,); zeros without one."""
    return np.minimum(bess_room_kwh(situation, plant), plant.bess.nominal_kw if plant.bess else 0.0)


def deliverable_kw(situation: Situation, plant: Plant) -> Float:
    """The most that the BESS can give in this hour, shape (sites,); zeros without one."""
    return np.minimum(bess_held_kwh(situation, plant), plant.bess.nominal_kw if plant.bess else 0.0)


def shaved_level_kw(net_kw: Float, energy_kwh: Float) -> Float:
    """The level down to which this energy can shave some hours' consumption; at least 0; shape (sites,).

    The level L of ``sum(max(net - L, 0)) = energy``: the highest hours are cut first.

    Args:
        net_kw: of each hour, shape (sites, hours).
        energy_kwh: shape (sites,).
    """
    highest_first = -np.sort(-net_kw, axis=1)
    hours = np.arange(1, net_kw.shape[1] + 1)
    # With the k highest hours cut to one level, it is their mean less the energy's share; too many or too few
    # hours give a lower one.
    levels = (np.cumsum(highest_first, axis=1) - energy_kwh[:, None]) / hours
    return np.maximum(levels.max(axis=1), 0.0)


def idle_kw(situation: Situation, plant: Plant, net_kw: Float) -> Float:
    """The BESS rests."""
    return np.zeros(situation.count)


def self_consumption_kw(situation: Situation, plant: Plant, net_kw: Float) -> Float:
    """Surplus is stored, and given back as soon as the site consumes more than it generates."""
    charge = np.minimum(np.maximum(-net_kw, 0.0), absorbable_kw(situation, plant))
    discharge = np.minimum(np.maximum(net_kw, 0.0), deliverable_kw(situation, plant))
    return charge - discharge


BESS_RULES: dict[str, BessRule] = {"idle": idle_kw, "self_consumption": self_consumption_kw}
"""By the second part of a rule's name."""
