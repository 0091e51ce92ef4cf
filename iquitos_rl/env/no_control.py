"""Where an environment's no-control reference comes from: stored beside the schema, or rolled out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from iquitos_rl.config.site import GASOLINE_KG_PER_KWH
from iquitos_rl.env.simulator import Simulator
from iquitos_rl.kpis import total_objectives
from iquitos_rl.objectives import OBJECTIVES, NoControlReference

__all__ = ["mean_reference", "rollout_reference", "stored_reference", "unit_reference", "unserved_factor"]

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


def mean_reference(schemas: Sequence[Path], simulator: Callable[[], Simulator]) -> NoControlReference:
    """Mean of the years' no-control values; where none are stored, ``simulator()`` simulates them."""
    references = [stored_reference(schema) for schema in schemas]
    if None in references:
        site = simulator()
        for year, schema in enumerate(schemas):
            if references[year] is None:
                steps = site.rows[year] - 1
                references[year] = rollout_reference(site, year, 0, steps, unserved_factor(schema))
    return NoControlReference.mean([reference for reference in references if reference is not None])


def rollout_reference(
    simulator: Simulator, year: int, start: int, steps: int, unserved_kg_per_kwh: float
) -> NoControlReference:
    """No control, simulated: every socket asks its rated power, occupied or not, and the BESS rests."""
    LOGGER.warning("no stored no-control values: simulating %d hours of no control", steps)
    simulator.reset(year, start, steps)
    action = np.ones(int(simulator.has_bess) + len(simulator.socket_names))
    action[: int(simulator.has_bess)] = 0.0
    hours = []
    for _ in range(steps):
        simulator.step(action)
        hours.append(simulator.flows())
    columns = {name: np.array([flows[name] for flows in hours]) for name in hours[0]}
    return NoControlReference(
        tuple(float(v) for v in total_objectives(columns, unserved_kg_per_kwh)),
        steps,
        float(columns["pv_generation_kwh"].sum()),
        float(columns["ev_departures"].sum()),
    )
