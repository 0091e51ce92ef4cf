"""Small sites for tests that run the real simulator: three sockets, everything else scaled down to them."""

import json
from pathlib import Path

import numpy as np

from iquitos_rl.config import SiteConfig, load_site

STATION = Path(__file__).parents[1] / "ray_configs" / "sites" / "iquitos_station.yaml"


def small_site(**changes):
    """The station with 2 + 1 sockets behind a feeder that carries 60 % of them; sections can be replaced."""
    data = load_site(STATION).model_dump(mode="json")
    data["name"] = "small_site"
    for kind, count in zip(data["sockets"], (2, 1), strict=True):
        kind["count"] = count
    data["feeder_limit_kw"] = 4.2
    data["load"]["annual_kwh"] = 10_000
    data["pv"] |= {"nominal_power_kwp": 12, "inverter_power_kw": 10}
    data["bess"] |= {"capacity_kwh": 15, "nominal_power_kw": 8}
    data["years"] = {"train": 2, "validation": 1, "test": 1}
    for key, value in changes.items():
        data[key] = data[key] | value if isinstance(value, dict) else value
    return SiteConfig.model_validate_json(json.dumps(data))


def v2g_site():
    """One plain socket and two that may discharge."""
    moto = load_site(STATION).sockets[0].model_dump(mode="json")
    v2g = {**moto, "name": "v2g", "count": 2, "discharge_power_kw": 2.0}
    return small_site(sockets=[{**moto, "count": 1}, v2g], feeder_limit_kw=3.6)


def no_control_action(env):
    """Rated power asked of every socket, and an idle BESS."""
    action = np.ones(env.action_space.shape, np.float32)
    action[: int(env.has_bess)] = 0
    return action


def random_actions(env, count, seed=0):
    """Actions drawn evenly from the whole action space."""
    space = env.action_space
    return (
        np.random.default_rng(seed).uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)
    )
