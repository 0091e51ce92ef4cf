"""The best rule: what a careful engineer would program, with its numbers searched on the training years.

Vehicles that cannot wait come first, those that need little before those that need much. The BESS keeps the
sun for the evening, when the feeder is full, and shaves those hours to one level, so that the day's peak
stays low. Surplus that the BESS will not need tops vehicles up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.control.bess_rules import (
    absorbable_kw,
    bess_held_kwh,
    bess_room_kwh,
    deliverable_kw,
    shaved_level_kw,
)
from iquitos_rl.control.controller import Kind
from iquitos_rl.control.rules import as_action
from iquitos_rl.control.socket_rules import drawn_kw, serve_needs_kw, top_up_kw
from iquitos_rl.env.situation import Episode, Plant, Situation

__all__ = ["BestRule", "BestRuleParameters"]

Float = NDArray[np.floating[Any]]
SUNRISE, SUNSET = 6, 18
"""Hours between which a sine stands for a day's sun: near the equator, all year round."""
LOW_SUN = 0.2
"""Below this share of noon's sun, PV says little about the rest of the day."""


@dataclass(frozen=True)
class BestRuleParameters:
    """Numbers of the rule; found by ``experiments/search_best_rule.py`` on the training years.

    Attributes:
        laxity_weight: how many kWh of need an hour of laxity outweighs in the order of service.
        evening: first hour of the evening, and the hour after its last.
        evening_feeder_share: what vehicles are expected to draw in the rest of the evening, as a share of the
            feeder's limit.
        cheap_hour_kw: by how much more the site may import in an hour that is cheaper than one of the next.
        day_draw_kw: what vehicles are expected to draw of later surplus.
        sun_trust: share of the sun still expected today that is counted on.
    """

    laxity_weight: float = 10.0
    evening: tuple[int, int] = (17, 22)
    evening_feeder_share: float = 1.0
    cheap_hour_kw: float = 5.0
    day_draw_kw: float = 30.0
    sun_trust: float = 0.8


class BestRule:
    """Least laxity and shortest need first, the evening shaved by the BESS, top-up from spare sun.

    Args:
        parameters: of the rule.
    """

    name = "best_rule"
    kind: Kind = "rule"
    mask_idle = True
    observation = None
    memoryless = True

    def __init__(self, parameters: BestRuleParameters | None = None) -> None:
        self.parameters = parameters or BestRuleParameters()
        self.settings = asdict(self.parameters)

    def prepare(self, episode: Episode) -> None:
        """Take the plant."""
        self._plant = episode.plant

    def act(self, situation: Situation) -> NDArray[np.float64]:
        """The actions, shape (sites, actions)."""
        plant, site = self._plant, situation.site
        served = serve_needs_kw(situation, plant, self._order)
        spare = self._later_surplus_kwh(situation) - bess_room_kwh(situation, plant)
        wanted_by_bess = np.clip(-spare, 0.0, absorbable_kw(situation, plant))
        request = served + top_up_kw(situation, plant, served, wanted_by_bess)
        drawn = drawn_kw(request, situation, plant, mask_idle=True).sum(axis=1)
        net = site.load_kwh + drawn - site.pv_kwh[:, 0]
        charge = np.minimum(np.maximum(-net, 0.0), absorbable_kw(situation, plant))
        discharge = np.minimum(np.maximum(net, 0.0), self._to_give_kw(situation, plant, net, spare))
        return as_action(request, charge - discharge, plant)

    def _order(self, need_kwh: Float, laxity_h: Float) -> Float:
        return np.maximum(laxity_h, 0.0) * self.parameters.laxity_weight + need_kwh

    def _later_surplus_kwh(self, situation: Situation) -> Float:
        """Surplus PV still to come today, if the sun goes on as it shines now; shape (sites,)."""
        p, site = self.parameters, situation.site
        now = _sun(site.hour)
        noon_kw = np.where(now > LOW_SUN, site.pv_kwh[:, 0] / np.maximum(now, LOW_SUN), 0.0) * p.sun_trust
        total = np.zeros(situation.count)
        for hour in range(SUNRISE, SUNSET):
            surplus = noon_kw * _sun(np.asarray(float(hour))) - site.load_kwh - p.day_draw_kw
            total += np.where(hour > site.hour, np.maximum(surplus, 0.0), 0.0)
        return total

    def _to_give_kw(self, situation: Situation, plant: Plant, net_kw: Float, spare_kwh: Float) -> Float:
        """The most the BESS should give in this hour, shape (sites,)."""
        hour = situation.site.hour
        first, end = self.parameters.evening
        able = deliverable_kw(situation, plant)
        # Before the evening only what the sun will put back.
        day = np.where(hour >= SUNRISE, np.clip(spare_kwh, 0.0, able), able)
        evening = np.minimum(able, self._above_level_kw(situation, plant, net_kw))
        return np.where(hour < first, day, np.where(hour < end, evening, able))

    def _above_level_kw(self, situation: Situation, plant: Plant, net_kw: Float) -> Float:
        """What the site consumes above the level down to which the BESS can shave the evening; (sites,)."""
        p, site = self.parameters, situation.site
        cheap = site.price_usd_per_kwh[:, 0] < site.price_usd_per_kwh.max(axis=1)
        now = net_kw - np.where(cheap, p.cheap_hour_kw, 0.0)
        feeder_kw = min(plant.feeder_limit_kw, float(plant.rated_kw.sum()))
        later = site.load_kwh + p.evening_feeder_share * feeder_kw
        rest = [np.where(hour > site.hour, later, 0.0) for hour in range(*p.evening)]
        return np.maximum(
            now - shaved_level_kw(np.stack([now, *rest], axis=1), bess_held_kwh(situation, plant)), 0.0
        )


def _sun(hour: Float) -> Float:
    """Height of the sun in the middle of an hour as a share of noon's; 0 at night."""
    angle = np.pi * (hour + 0.5 - SUNRISE) / (SUNSET - SUNRISE)
    return np.where((hour >= SUNRISE) & (hour < SUNSET), np.sin(angle), 0.0)
