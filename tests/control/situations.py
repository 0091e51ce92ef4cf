"""Plants, hours and episodes put together by hand, for controllers that are tested without a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from iquitos_rl.config import RewardWeights
from iquitos_rl.env.no_control import unit_reference
from iquitos_rl.env.observation import SiteState, SocketState
from iquitos_rl.env.situation import BessPlant, Episode, Plant, Situation

BESS = BessPlant(capacity_kwh=100.0, nominal_kw=50.0, floor_soc=0.2, one_way_efficiency=0.9)


def plant(
    rated_kw: tuple[float, ...] = (2.0, 2.0, 3.0),
    *,
    feeder_limit_kw: float = 100.0,
    bess: BessPlant | None = BESS,
    may_discharge: bool = False,
) -> Plant:
    count = len(rated_kw)
    return Plant(
        socket_names=tuple(f"moto_{number:03d}" for number in range(count)),
        rated_kw=np.array(rated_kw),
        charger_efficiency=np.ones(count),
        may_discharge=np.full(count, may_discharge),
        feeder_limit_kw=feeder_limit_kw,
        bess=bess,
    )


def situation(
    soc: tuple[float, ...] = (0.5, 0.5, 0.5),
    *,
    hours_left: tuple[float, ...] | None = None,
    capacity_kwh: tuple[float, ...] | None = None,
    required_soc: float = 0.9,
    hour: float = 12.0,
    pv_kw: float = 0.0,
    load_kw: float = 0.0,
    bess_soc: float = 0.2,
    hour_of_year: float | None = None,
    observation: Any = None,
) -> Situation:
    """One site; a SOC below 0 stands for an empty socket."""
    count = len(soc)
    occupied = np.array([soc]) >= 0
    pv, price = np.zeros((1, 4)), np.full((1, 4), 0.2)
    pv[0, 0] = pv_kw
    site = SiteState(
        hour_of_year=np.array([hour if hour_of_year is None else hour_of_year]),
        hour=np.array([hour]),
        day_type=np.zeros(1),
        pv_kwh=pv,
        load_kwh=np.array([load_kw]),
        price_usd_per_kwh=price,
        carbon_intensity_kg_per_kwh=np.full(1, 0.4521),
        bess_soc=np.array([bess_soc]),
        previous_net_kwh=np.zeros(1),
        day_peak_kw=np.zeros(1),
    )
    sockets = SocketState(
        occupied=occupied,
        soc=np.where(occupied, [soc], 0.0),
        required_soc=np.where(occupied, required_soc, 0.0),
        capacity_kwh=np.array([capacity_kwh or (4.0,) * count]),
        hours_to_departure=np.where(occupied, [hours_left or (2.0,) * count], 0.0),
    )
    return Situation(site, sockets, lambda: np.asarray(observation, np.float32))


def episode(of: Plant | None = None, *, start_step: int = 0, steps: int = 24, **changes: Any) -> Episode:
    of = of or plant()
    low = np.zeros(of.action_size, np.float32)
    low[int(of.bess is not None) :][of.may_discharge] = -1.0
    if of.bess is not None:
        low[0] = -1.0
    values: dict[str, Any] = {
        "plant": of,
        "schema": Path("schema.json"),
        "start_step": start_step,
        "steps": steps,
        "action_space": spaces.Box(low, np.ones_like(low), dtype=np.float32),
        "observation_space": spaces.Box(-1.0, 1.0, (3,), np.float32),
        "observation_layout": {"names": ["a", "b", "c"]},
        "weights": RewardWeights(),
        "reference": unit_reference(),
        "unserved_kg_per_kwh": 2.146,
    }
    return Episode(**(values | changes))
