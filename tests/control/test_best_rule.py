"""The best rule: order of service, the evening's share of the BESS, and surplus that is not needed later."""

from __future__ import annotations

import numpy as np
import pytest

from iquitos_rl.control.bess_rules import shaved_level_kw
from iquitos_rl.control.best_rule import BestRule, BestRuleParameters
from iquitos_rl.env.situation import Plant, Situation
from tests.control.situations import BESS, episode, plant, situation

NOBODY = (-1.0, -1.0, -1.0)


def act(now: Situation, of: Plant | None = None, **parameters: float) -> tuple[float, list[float]]:
    of = of or plant()
    rule = BestRule(BestRuleParameters(**parameters))  # type: ignore[arg-type]
    rule.prepare(episode(of))
    (action,) = rule.act(now)
    return float(action[0] * BESS.nominal_kw), (action[1:] * of.rated_kw).tolist()


def test_of_those_that_cannot_wait_the_shortest_need_goes_first():
    now = situation((0.1, 0.3, 0.2), hours_left=(1.0, 1.0, 1.0))  # 3.2, 2.4 and 2.8 kWh of at most 2
    assert act(now, plant((2.0, 2.0, 2.0), feeder_limit_kw=3.0))[1] == pytest.approx([0.0, 2.0, 1.0])


def test_an_hour_of_laxity_outweighs_some_need():
    now = situation((0.2, 0.6, 0.6), hours_left=(1.0, 4.0, 4.0))
    assert act(now, plant(feeder_limit_kw=2.0))[1] == pytest.approx([2.0, 0.0, 0.0])


def shaved(hour: int, load_kw: float = 200.0, bess_soc: float = 0.6, **changes: float) -> float:
    """What the BESS gives when nobody charges and later hours are expected to be as this one."""
    now = situation(NOBODY, hour=hour, load_kw=load_kw, bess_soc=bess_soc)
    return -act(now, None, **({"evening_feeder_share": 0.0} | changes))[0]


@pytest.mark.parametrize(("hour", "hours_left"), [(17, 5), (18, 4), (20, 2), (21, 1)])
def test_hours_alike_get_alike_of_the_bess(hour: int, hours_left: int):
    assert shaved(hour) == pytest.approx((0.6 - 0.2) * 100 * 0.9 / hours_left)


def test_the_bess_is_kept_for_hours_that_will_be_higher():
    # 36 kWh for this hour at 200 kW and one more at 200 + 7: level (407 - 36) / 2
    assert shaved(20, evening_feeder_share=1.0) == pytest.approx(200 - (407 - 36) / 2)
    # and not wasted on one that is far below them
    assert shaved(20, load_kw=20, evening_feeder_share=20.0) == 0.0


def test_an_hour_that_is_cheaper_than_the_next_imports_more():
    now = situation(NOBODY, hour=20, load_kw=200, bess_soc=0.6)
    now.site.price_usd_per_kwh[0, 1:] = 0.3
    given = -act(now, evening_feeder_share=0.0, cheap_hour_kw=4.0)[0]
    # 196 counted for this hour, 200 for the next: level (396 - 36) / 2
    assert given == pytest.approx(196 - 180)
    assert given < shaved(20)


@pytest.mark.parametrize(
    ("net_kw", "energy_kwh", "level"),
    [
        ([10.0, 4.0, 1.0], 0.0, 10.0),
        ([10.0, 4.0, 1.0], 3.0, 7.0),
        ([10.0, 4.0, 1.0], 6.0, 4.0),
        ([10.0, 4.0, 1.0], 8.0, 3.0),
        ([1.0, 10.0, 4.0], 12.0, 1.0),
        ([10.0, 4.0, 1.0], 100.0, 0.0),
        ([0.0, 0.0, 5.0], 2.0, 3.0),
    ],
)
def test_energy_shaves_the_highest_hours_to_one_level(net_kw: list[float], energy_kwh: float, level: float):
    assert shaved_level_kw(np.array([net_kw]), np.array([energy_kwh]))[0] == pytest.approx(level)


def test_the_bess_gives_no_more_than_the_site_consumes():
    assert act(situation(NOBODY, hour=21, load_kw=3, bess_soc=1.0))[0] == pytest.approx(-3.0)


def test_before_the_evening_the_bess_keeps_what_the_sun_will_not_put_back():
    cloudy = situation(NOBODY, hour=10, load_kw=40, pv_kw=0, bess_soc=0.6)
    assert act(cloudy)[0] == 0.0
    # much sun to come, a nearly full BESS: what it gives now will be there again
    sunny = situation(NOBODY, hour=10, load_kw=40, pv_kw=39, bess_soc=1.0)
    assert act(sunny, day_draw_kw=0.0)[0] == pytest.approx(0.0)  # no surplus expected beyond the load
    assert act(situation(NOBODY, hour=8, load_kw=10, pv_kw=9, bess_soc=1.0), day_draw_kw=0.0)[0] < 0


def test_surplus_goes_to_the_bess_unless_the_sun_will_fill_it_anyway():
    topped = (0.9, 0.9, 0.9)  # all have what they require; 0.4 kWh of room each
    little_sun_left = situation(topped, hour=16, pv_kw=10, load_kw=0, bess_soc=0.5)
    bess_kw, sockets = act(little_sun_left)
    assert sockets == pytest.approx([0.0, 0.0, 0.0])
    assert bess_kw == pytest.approx(10.0)
    much_sun = situation(topped, hour=9, pv_kw=150, load_kw=0, bess_soc=0.9)
    bess_kw, sockets = act(much_sun)
    assert sockets == pytest.approx([0.4, 0.4, 0.4])
    assert bess_kw == pytest.approx(10 / 0.9)


def test_a_site_without_a_bess_or_without_vehicles_is_served_too():
    of = plant(bess=None)
    rule = BestRule()
    rule.prepare(episode(of))
    assert rule.act(situation((0.8, -1, -1))).shape == (1, 3)
    assert np.array_equal(rule.act(situation(NOBODY, hour=19)), np.zeros((1, 3)))


def test_the_shipped_parameters_are_in_its_settings():
    settings = BestRule().settings
    assert settings["evening"] == BestRuleParameters().evening
    assert set(settings) == set(vars(BestRuleParameters()))
