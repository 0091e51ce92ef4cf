"""An engine's state, put into another engine, goes on to the bit as if nothing had happened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from iquitos_rl.config import RewardWeights
from iquitos_rl.env.batch.engine import BatchEngine
from iquitos_rl.env.batch.flows import hourly_flows
from iquitos_rl.env.batch.situation import engine_situation, engine_state, restore_state
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.env.no_control import unit_reference
from iquitos_rl.site import build_dataset
from tests.small_site import small_site, v2g_site

BEFORE, AFTER = 29, 40


def overnight_site() -> Any:
    """Vehicles that stay the night, and a BESS that wears and loses while it stands."""
    sessions = small_site().sessions.model_dump(mode="json")
    sessions["dwell"] |= {"one_hour_probability": 0.2, "busy_one_hour_probability": 0.2}
    sessions["dwell"]["long_stay_hours"] = [9, 20]
    sessions["arrivals"] = [{"hours": [8, 23], "probability": 0.3}]
    bess = {"standby_loss_per_hour": 0.003, "capacity_loss_coefficient": 0.002, "initial_soc": 0.5}
    return small_site(sessions=sessions, opening_hours=[0, 24], bess=bess)


@pytest.fixture(scope="module", params=["plain", "overnight", "v2g"])
def years(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    site = {"plain": small_site, "overnight": overnight_site, "v2g": v2g_site}[request.param]()
    dataset = build_dataset(site, tmp_path_factory.mktemp("state") / "site", 4)
    return load_years([dataset.schema_path("test")])


def engine_of(years: Any, rows: list[int]) -> BatchEngine:
    engine = BatchEngine(years, len(rows), weights=RewardWeights(), reference=unit_reference())
    engine.reset(np.arange(len(rows)), np.zeros(len(rows), np.intp), np.array(rows))
    return engine


def test_a_restored_engine_goes_on_as_the_one_it_was_taken_from(years: Any):
    rows = [3, 24 * 7, 24 * 30 + 15]
    first = engine_of(years, rows)
    size = len(years.socket_names) + 1
    actions = np.random.default_rng(0).uniform(-1, 1, (BEFORE + AFTER, len(rows), size))
    actions[:, :, 1:] = np.where(first.may_discharge, actions[:, :, 1:], np.abs(actions[:, :, 1:]))
    for action in actions[:BEFORE]:
        first.step(action)
    state = engine_state(first)
    second = engine_of(years, [row + BEFORE for row in rows])
    assert engine_state(second).differs(state).all()  # or the test would prove nothing
    restore_state(second, state)
    assert not engine_state(second).differs(state).any()
    for action in actions[BEFORE:]:
        assert np.array_equal(first.observe(), second.observe())
        one, other = (engine_situation(engine) for engine in (first, second))
        for name, value in vars(one.site).items():
            assert np.array_equal(value, getattr(other.site, name)), name
        one_reward, other_reward = (engine.step(action).reward.copy() for engine in (first, second))
        assert np.array_equal(one_reward, other_reward)
        flows = [hourly_flows(engine) for engine in (first, second)]
        for name, values in flows[0].items():
            assert np.array_equal(values, flows[1][name]), name


def test_a_state_does_not_follow_the_engine_and_its_parts_can_be_exchanged(years: Any):
    engine = engine_of(years, [0, 24 * 7])
    for _ in range(20):
        engine.step(np.full((2, len(years.socket_names) + 1), 0.5))
    state = engine_state(engine)
    copy = state.of(np.arange(2))
    for _ in range(3):
        engine.step(np.full((2, len(years.socket_names) + 1), 0.5))
    assert not state.differs(copy).any()
    copy.put(np.array([0]), state.of(np.array([1])))
    assert copy.differs(state).tolist() == [True, False]
