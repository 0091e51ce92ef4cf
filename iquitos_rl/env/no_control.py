"""Where an environment's no-control reference comes from: stored beside the schema, or rolled out."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from iquitos_rl.config.site import GASOLINE_KG_PER_KWH
from iquitos_rl.env.citylearn_site import CityLearnSite
from iquitos_rl.objectives import OBJECTIVES, NoControlReference

__all__ = ["rollout_reference", "stored_reference", "unit_reference", "unserved_factor"]

LOGGER = logging.getLogger(__name__)

STORED_NAME = "no_control.json"


def unit_reference() -> NoControlReference:
    """A reference of ones, for a reward whose divisors are not known yet or do not matter."""
    return NoControlReference((1.0,) * len(OBJECTIVES), steps=1, pv_generation_kwh=1.0, departures=1.0)


def unserved_factor(schema: Path) -> float:
    """CO2 (kg) of a kWh that a vehicle lacks, as the dataset builder noted it in the schema."""
    noted = json.loads(schema.read_text(encoding="utf-8")).get("iquitos_rl") or {}
    return float(noted.get("unserved_energy_kg_per_kwh", GASOLINE_KG_PER_KWH))


def stored_reference(schema: Path) -> NoControlReference | None:
    """The year's values that the dataset builder stored beside the schema; None if there are none."""
    path = schema.parent / STORED_NAME
    if not path.is_file():
        return None
    return NoControlReference.from_json(json.loads(path.read_text(encoding="utf-8"))["reference"])


def rollout_reference(site: CityLearnSite, start: int, steps: int) -> NoControlReference:
    """No control, simulated: every socket asks its rated power, occupied or not, and the BESS rests."""
    LOGGER.warning("no stored no-control values: simulating %d hours of no control", steps)
    site.reset(start, steps)
    action = np.ones(int(site.has_bess) + len(site.socket_names))
    action[: int(site.has_bess)] = 0.0
    increments = np.zeros(len(OBJECTIVES))
    pv_kwh, departures = 0.0, 0
    for _ in range(steps):
        site.step(action)
        outcome = site.reward.last
        assert outcome is not None
        increments += outcome.increments
        departures += outcome.departures
        pv_kwh += site.pv_generation_kwh
    return NoControlReference(tuple(float(v) for v in increments), steps, pv_kwh, departures)
