"""Actions under which every term of the physics matters at some time.

Open-loop makers return an array (steps, actions). Rules are policies: they decide on the ``features``
observation while CityLearn is recorded, and what they decided is then replayed on the batch engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.parity import Policy

Actions = NDArray[np.float64]


def random_uniform(env: Any, steps: int, seed: int) -> Actions:
    """Evenly from the whole action space."""
    space = env.action_space
    return np.random.default_rng(seed).uniform(space.low, space.high, (steps, *space.shape))


def extreme(env: Any, steps: int, seed: int) -> Actions:
    """Lowest, zero or highest, drawn for each entry and hour, with stretches of everything at one end."""
    random = np.random.default_rng(seed)
    space = env.action_space
    ends = np.stack([space.low, np.zeros_like(space.low), space.high]).astype(np.float64)
    choice = random.integers(0, 3, (steps, *space.shape))
    step = 0
    while step < steps:
        length = int(random.integers(3, 15))
        if random.random() < 0.4:
            choice[step : step + length] = random.integers(0, 3)
        step += length
    return np.take_along_axis(ends, choice, axis=0)


def sparse(env: Any, steps: int, seed: int) -> Actions:
    """Mostly zeros, and small requests: below charger minima, and alone on the feeder."""
    random = np.random.default_rng(seed)
    actions = random_uniform(env, steps, seed) * random.choice([0.0, 0.0, 0.15, 1.0], (steps, 1))
    return actions * (random.random(actions.shape) < 0.5)


OPEN_LOOP: dict[str, Callable[[Any, int, int], Actions]] = {
    "random": random_uniform,
    "extreme": extreme,
    "sparse": sparse,
}


class _Rule:
    """A rule: a request for each socket and for the BESS, from the features by name."""

    def __init__(self, env: Any) -> None:
        self.layout = env.layout
        self.low = env.action_space.low.astype(np.float64)
        self.has_bess = env.has_bess
        self.discharges = self.low[int(env.has_bess) :] < 0

    def __call__(self, step: int, features: NDArray[np.float32]) -> Actions:
        site = dict(zip(self.layout.names, features[self.layout.site_slice].tolist(), strict=False))
        block = features[self.layout.sockets_slice].reshape(len(self.discharges), -1).astype(np.float64)
        names = self.layout.to_json()["socket_features"]
        sockets = {name: block[:, k] for k, name in enumerate(names)}
        bess = [float(np.clip(self.bess(site), -1, 1))] if self.has_bess else []
        return np.concatenate([bess, np.clip(self.sockets(step, site, sockets), self.low[len(bess) :], 1)])

    def bess(self, site: dict[str, float]) -> float:
        """Nothing."""
        return 0.0

    def sockets(self, step: int, site: dict[str, float], sockets: dict[str, Actions]) -> Actions:
        """No control: rated power asked of every socket."""
        return np.ones(len(self.discharges))


class PlugAndCharge(_Rule):
    """Rated power wherever a vehicle lacks something; the BESS evens out the last hour's net consumption."""

    def bess(self, site: dict[str, float]) -> float:
        return -1.5 * site["previous_net_consumption"]

    def sockets(self, step: int, site: dict[str, float], sockets: dict[str, Actions]) -> Actions:
        return ((sockets["occupied"] > 0) & (sockets["soc_gap"] > 0)).astype(np.float64)


class LeastLaxity(_Rule):
    """Whoever has the least time to spare first, in parts of the feeder; the BESS stores the sun."""

    def bess(self, site: dict[str, float]) -> float:
        return 0.8 if site["pv"] > site["load"] else -0.3

    def sockets(self, step: int, site: dict[str, float], sockets: dict[str, Actions]) -> Actions:
        wanted = sockets["soc_gap"] > 0
        rank = np.argsort(np.argsort(np.where(wanted, sockets["laxity"], np.inf)))
        served = rank < np.ceil(0.6 * wanted.sum())
        return np.where(wanted & served, np.clip(1.0 - sockets["laxity"], 0.1, 1.0), 0.0)


class DischargeBursts(_Rule):
    """Vehicles and the BESS are filled for some hours and emptied in the next ones."""

    def bess(self, site: dict[str, float]) -> float:
        return 1.0 if site["hour_sin"] > 0 else -1.0

    def sockets(self, step: int, site: dict[str, float], sockets: dict[str, Actions]) -> Actions:
        return np.where(self.discharges & (step % 5 >= 3), -0.9, 0.7)


RULES: dict[str, Callable[[Any], Policy]] = {
    "no_control": _Rule,
    "plug_and_charge": PlugAndCharge,
    "least_laxity": LeastLaxity,
    "discharge_bursts": DischargeBursts,
}


def make(name: str, env: Any, steps: int, seed: int = 0) -> Actions | Policy:
    """The actions, or the policy, of this name for an environment."""
    return OPEN_LOOP[name](env, steps, seed) if name in OPEN_LOOP else RULES[name](env)


NAMES = (*OPEN_LOOP, *RULES)
