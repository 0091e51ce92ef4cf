"""Rules on hours put together by hand: who is served, what the BESS does, and that both see each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from iquitos_rl.control import ControllerError, RandomControl, Rule, load_controller
from iquitos_rl.control.bess_rules import absorbable_kw, deliverable_kw
from iquitos_rl.control.rules import SHORT_NAMES
from iquitos_rl.control.socket_rules import drawn_kw, laxity_first_kw, serve_in_order
from iquitos_rl.env.situation import Plant, Situation
from tests.control.situations import BESS, episode, plant, situation


def act(name: str, now: Situation, of: Plant | None = None) -> tuple[float, list[float]]:
    """Power of the BESS, and requests of the sockets, in kW."""
    of = of or plant()
    controller = load_controller(name)
    controller.prepare(episode(of))
    (action,) = controller.act(now)
    bess_kw = action[0] * BESS.nominal_kw if of.bess is not None else 0.0
    return float(bess_kw), (action[int(of.bess is not None) :] * of.rated_kw).tolist()


def test_no_control_asks_rated_power_of_every_socket_and_the_bess_rests():
    now = situation((0.5, -1, 0.95), pv_kw=500.0)
    assert act("no_control", now) == (0.0, [2.0, 2.0, 3.0])
    assert load_controller("no_control").mask_idle is False
    assert load_controller("no_control+self_consumption").mask_idle is False


def test_without_a_bess_the_action_is_of_sockets_only():
    of = plant(bess=None)
    assert act("no_control", situation(), of) == (0.0, [2.0, 2.0, 3.0])
    assert act("laxity_first", situation((0.8, -1, -1)), of)[1] == pytest.approx([0.4, 0.0, 0.0])


def test_a_socket_that_may_discharge_charges_all_the_same():
    assert act("no_control", situation(), plant(may_discharge=True))[1] == [2.0, 2.0, 3.0]


def test_plug_and_charge_asks_of_occupied_sockets_until_they_are_full():
    assert act("plug_and_charge+idle", situation((0.95, -1, 1.0))) == (0.0, [2.0, 0.0, 0.0])


def test_nobody_is_charged():
    assert act("none+idle", situation()) == (0.0, [0.0, 0.0, 0.0])


def test_least_laxity_goes_first_when_the_feeder_is_small():
    # needs 1.6 kWh each; to full power 0.8, 0.8 and 0.53 h: the second can wait least
    now = situation((0.5, 0.5, 0.5), hours_left=(3.0, 1.0, 2.0))
    assert act("laxity_first+idle", now, plant(feeder_limit_kw=3.0))[1] == pytest.approx([0.0, 1.6, 1.4])


def test_laxity_first_stops_at_the_required_soc():
    assert act("laxity_first+idle", situation((0.9, 0.95, 0.85)))[1] == pytest.approx([0.0, 0.0, 0.2])


def test_laxity_first_tops_up_only_what_would_be_exported():
    # 0.2 kWh are needed, 0.4 are left to a full battery each; 1 kW of surplus remains after load and need
    now = situation((0.9, 0.9, 0.85), hours_left=(3.0, 1.0, 2.0), pv_kw=2.2, load_kw=1.0)
    alone = act("laxity_first+idle", now)[1]
    assert sum(alone) == pytest.approx(1.2)
    assert alone == pytest.approx([0.2, 0.4, 0.6])  # those that leave first are topped up first
    # the BESS can store it: nothing is lost, nobody is topped up
    bess_kw, sockets = act("laxity_first", now)
    assert sockets == pytest.approx([0.0, 0.0, 0.2])
    assert bess_kw == pytest.approx(1.0)
    # a full BESS cannot
    full = situation((0.9, 0.9, 0.85), hours_left=(3.0, 1.0, 2.0), pv_kw=2.2, load_kw=1.0, bess_soc=1.0)
    assert act("laxity_first", full)[1] == pytest.approx(alone)


def test_self_consumption_stores_surplus_and_gives_it_back():
    assert act("none+self_consumption", situation(pv_kw=30, load_kw=10, bess_soc=0.5))[0] == pytest.approx(20)
    assert act("none+self_consumption", situation(load_kw=10, bess_soc=0.5))[0] == pytest.approx(-10)
    # vehicles count: 6 kWh of need in 3 sockets of 2 kW... the third gives up to 3 kW
    now = situation((0.5, 0.5, 0.5), load_kw=1, bess_soc=0.5)
    assert act("laxity_first", now)[0] == pytest.approx(-(1 + 3 * 1.6))
    # no control with an eye on what is drawn: empty sockets ask, but draw nothing
    now = situation((0.5, -1, -1), load_kw=1, bess_soc=0.5)
    assert act("no_control+self_consumption", now, plant(feeder_limit_kw=3.5))[0] == pytest.approx(-(1 + 1.0))


def test_the_bess_is_never_asked_for_more_than_it_can():
    # 80 kWh above the floor of 100 kWh, 0.9 one way
    assert deliverable_kw(situation(bess_soc=1.0), plant())[0] == pytest.approx(50.0)
    assert deliverable_kw(situation(bess_soc=0.3), plant())[0] == pytest.approx(10 * 0.9)
    assert deliverable_kw(situation(bess_soc=0.1), plant())[0] == 0.0
    assert absorbable_kw(situation(bess_soc=0.9), plant())[0] == pytest.approx(10 / 0.9)
    assert absorbable_kw(situation(bess_soc=0.2), plant())[0] == pytest.approx(50.0)
    assert act("none+self_consumption", situation(pv_kw=500, bess_soc=0.2))[0] == pytest.approx(50.0)


def test_what_is_drawn_is_shared_by_the_feeder_and_limited_by_room():
    now = situation((0.5, -1, 0.95))
    request = np.array([[2.0, 2.0, 3.0]])
    small = plant(feeder_limit_kw=3.5)
    assert drawn_kw(request, now, small, mask_idle=False)[0] == pytest.approx([1.0, 0.0, 0.2])
    assert drawn_kw(request, now, small, mask_idle=True)[0] == pytest.approx([1.4, 0.0, 0.2])


def test_serving_in_order_gives_no_more_than_the_limit_and_leaves_no_one_behind_for_a_later_one():
    random = np.random.default_rng(0)
    wanted = random.uniform(0, 2, (200, 7))
    order = random.integers(0, 4, (200, 7)).astype(float)
    limit = random.uniform(0, 9, 200)
    given = serve_in_order(wanted, order, limit)
    assert (given >= 0).all()
    assert (given <= wanted + 1e-12).all()
    assert given.sum(axis=1) == pytest.approx(np.minimum(limit, wanted.sum(axis=1)))
    for site in range(200):
        short = order[site][given[site] < wanted[site] - 1e-12]
        if len(short):  # whoever comes after the first that is cut short gets nothing
            assert given[site][order[site] > short.min()].sum() == pytest.approx(0.0)


@pytest.mark.parametrize("name", list(SHORT_NAMES))
def test_a_short_name_is_the_rule_that_it_stands_for(name: str):
    now = situation((0.5, -1, 0.92), pv_kw=9, load_kw=3, bess_soc=0.6)
    assert act(name, now) == act(SHORT_NAMES[name], now)
    assert load_controller(name).name == name


@pytest.mark.parametrize("name", ["laxity_first+nothing", "nothing+idle", "laxity_first+", "+idle", "laxity"])
def test_an_unknown_rule_is_refused_with_what_there_is(name: str):
    with pytest.raises(ControllerError, match=r"laxity_first.*best_rule"):
        load_controller(name)


@pytest.mark.parametrize("name", [*SHORT_NAMES, "none+self_consumption", "best_rule"])
def test_many_sites_are_decided_as_one_by_one(name: str):
    controller = load_controller(name)
    controller.prepare(episode(plant(feeder_limit_kw=4.0)))
    random = np.random.default_rng(1)
    single = [
        situation(
            tuple(np.where(random.random(3) < 0.7, random.uniform(0.1, 1.0, 3), -1).tolist()),
            hours_left=tuple(random.integers(1, 6, 3).astype(float).tolist()),
            hour=float(random.integers(0, 24)),
            pv_kw=float(random.uniform(0, 20)),
            load_kw=float(random.uniform(0, 9)),
            bess_soc=float(random.uniform(0.2, 1.0)),
        )
        for _ in range(50)
    ]
    together = Situation(
        site=type(single[0].site)(**stacked([s.site for s in single])),
        sockets=type(single[0].sockets)(**stacked([s.sockets for s in single])),
        observe=single[0].observe,
    )
    assert np.array_equal(controller.act(together), np.concatenate([controller.act(s) for s in single]))


def stacked(parts: list[Any]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])}


def test_laxity_first_never_asks_more_than_the_feeder_or_the_room():
    random = np.random.default_rng(2)
    of = plant((2.0,) * 6, feeder_limit_kw=5.0)
    for _ in range(100):
        now = situation(
            tuple(np.where(random.random(6) < 0.8, random.uniform(0, 1, 6), -1).tolist()),
            hours_left=tuple(random.integers(1, 6, 6).astype(float).tolist()),
            pv_kw=float(random.uniform(0, 20)),
        )
        given = laxity_first_kw(now, of, np.zeros(1))
        assert given.sum() <= 5.0 + 1e-9
        room = np.where(now.sockets.occupied, (1 - now.sockets.soc) * 4.0, 0.0)
        assert (given <= np.minimum(2.0, room) + 1e-9).all()


def test_random_actions_fill_the_action_space_and_are_the_hour_s_own():
    of = plant(may_discharge=True)
    controller = RandomControl(seed=3)
    controller.prepare(episode(of, start_step=48, steps=500))
    actions = np.concatenate([controller.act(situation(hour_of_year=48 + h)) for h in range(500)])
    assert actions.min() < -0.98
    assert actions.max() > 0.98
    assert np.array_equal(controller.act(situation(hour_of_year=60)), actions[12:13])
    other = RandomControl(seed=4)
    other.prepare(episode(of, start_step=48, steps=500))
    assert not np.array_equal(other.act(situation(hour_of_year=60)), actions[12:13])


def test_a_rule_says_what_it_is_made_of():
    rule = load_controller("plug_and_charge")
    assert isinstance(rule, Rule)
    assert rule.settings == {"sockets": "plug_and_charge", "bess": "self_consumption"}
