"""Rules drawn at random from those that try to get something for nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from iquitos_rl.control.bess_rules import absorbable_kw, deliverable_kw
from iquitos_rl.control.best_rule import BestRule
from iquitos_rl.control.controller import Kind
from iquitos_rl.control.rules import as_action
from iquitos_rl.control.socket_rules import drawn_kw, needed_kwh, room_kwh
from iquitos_rl.env.situation import Episode, Situation

__all__ = ["AnyRule", "CheatingBestRule"]


class AnyRule:
    """A rule that may cheat.

    It cycles the BESS, gives it back early or all at once, tops vehicles up by day or night, holds some back,
    and dumps what it stored; each hour of the day has its own habits, kept for the whole window.
    """

    name = "any_rule"
    kind: Kind = "rule"
    mask_idle = True
    observation = None
    memoryless = True
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._cycle_kw = random.choice([0.0, 0.2, 1.0]) * random.uniform(-1, 1, 24)
        self._store, self._give = random.choice([0.0, 0.5, 1.0], (2, 24), p=[0.2, 0.2, 0.6])
        self._serve = random.choice([0.3, 0.8, 1.0], 24, p=[0.1, 0.1, 0.8])
        self._top_up = random.choice([0.0, 0.5, 1.0], 24, p=[0.6, 0.2, 0.2])

    def prepare(self, episode: Episode) -> None:
        self._plant = episode.plant

    def act(self, situation: Situation) -> np.ndarray:
        plant, hour = self._plant, situation.site.hour.astype(int)
        need, room = needed_kwh(situation, plant), room_kwh(situation, plant)
        request = np.minimum(need * self._serve[hour][:, None], plant.rated_kw)
        request = np.maximum(request, np.minimum(room * self._top_up[hour][:, None], plant.rated_kw))
        drawn = drawn_kw(request, situation, plant, mask_idle=True).sum(axis=1)
        net = situation.site.load_kwh + drawn - situation.site.pv_kwh[:, 0]
        charge = self._store[hour] * np.minimum(np.maximum(-net, 0), absorbable_kw(situation, plant))
        give = self._give[hour] * np.minimum(np.maximum(net, 0), deliverable_kw(situation, plant))
        assert plant.bess is not None
        return as_action(request, charge - give + self._cycle_kw[hour] * plant.bess.nominal_kw, plant)


class CheatingBestRule(BestRule):
    """The best rule with a few hours of the day in which it cheats a little or a lot.

    In those it gives the BESS back early or late, moves it to and fro, tops vehicles up from wherever the
    power comes, or holds their charge back: what would gain something if the optimum had overlooked it.
    """

    name = "cheating_best_rule"

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = np.random.default_rng(seed)
        hours = random.random(24) < random.uniform(0.05, 0.4)
        strength = 10.0 ** random.uniform(-2.5, 0, 24) * hours
        self._bess = random.choice([-1.0, 1.0], 24) * strength * random.choice([0, 1])
        self._top_up = strength * random.choice([0, 1])
        self._hold = strength * random.choice([0, 1])

    def act(self, situation: Situation) -> np.ndarray:
        action, plant = super().act(situation), self._plant
        hour = situation.site.hour.astype(int)
        action[:, 0] += self._bess[hour]
        room = np.minimum(room_kwh(situation, plant), plant.rated_kw) / plant.rated_kw
        sockets = action[:, 1:]
        sockets += self._top_up[hour][:, None] * (room - sockets)
        sockets *= 1.0 - self._hold[hour][:, None]
        return action
