"""What an environment's last hour did, out of the objects of the engine that simulated it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env import EVChargingEnv
from iquitos_rl.env.citylearn_years import CityLearnYears

__all__ = ["increments", "run", "sockets_kwh", "total"]


def increments(env: EVChargingEnv) -> NDArray[np.float64]:
    """The objectives' increments, shape (5,)."""
    if isinstance(env.simulator, CityLearnYears):
        outcome = env.site.reward.last
        assert outcome is not None
        return outcome.increments
    assert env.engine.hour is not None
    return env.engine.hour.increments[0].copy()


def sockets_kwh(env: EVChargingEnv) -> NDArray[np.float64]:
    """What each socket drew from the site, shape (sockets,)."""
    if isinstance(env.simulator, CityLearnYears):
        hour = env.site.t - 1
        return np.array([charger.electricity_consumption[hour] for charger in env.site.chargers], float)
    assert env.engine.hour is not None
    return env.engine.hour.sockets_kwh[0].astype(float)


def run(env: EVChargingEnv, actions: Any, start: int) -> list[dict[str, Any]]:
    """Infos of an episode; each with ``increments`` and ``sockets_kwh`` added."""
    env.reset(options={"start_step": start})
    infos = []
    for action in actions:
        info = env.step(action)[4]
        infos.append(info | {"increments": increments(env), "sockets_kwh": sockets_kwh(env)})
    return infos


def total(infos: list[dict[str, Any]], name: str) -> float:
    """Sum over the hours."""
    return float(sum(info[name] for info in infos))
