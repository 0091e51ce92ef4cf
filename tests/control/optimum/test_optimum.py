"""The optimum of real windows of a small site: a bound, feasible, and what the environment then does."""

import numpy as np
import pytest

from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.control.optimum.goal import score_goal
from iquitos_rl.control.optimum.optimum import frontier, solve_optimum
from iquitos_rl.control.optimum.plan import plan_of
from iquitos_rl.control.optimum.programme import Programme
from iquitos_rl.control.optimum.replay import drive, replay
from iquitos_rl.control.optimum.window import window_of
from iquitos_rl.objectives import OBJECTIVES, NoControlReference, score

WEIGHTS = RewardWeights()
WEEK = 168
WEEKS = [0, 5, 11, 16, 21, 27, 32, 37, 42, 48]
START, STEPS = 30 * 24, 21 * 24


def optimum(years, no_control, start=START, steps=STEPS, weights=WEIGHTS, **options):
    reference = no_control.reference(start, steps)
    return solve_optimum(years, 0, start, steps, reference=reference, weights=weights, **options)


@pytest.fixture(scope="module")
def best(years, no_control):
    return optimum(years, no_control)


@pytest.mark.parametrize("week", WEEKS)
def test_forbidding_simultaneous_charge_and_discharge_changes_nothing(years, no_control, week):
    start = week * WEEK
    reference = no_control.reference(start, WEEK)
    site = window_of(years, 0, start, WEEK)
    programme = Programme(site, score_goal(site, reference, WEIGHTS))
    linear, whole = (
        score(plan_of(site, programme.solve(forbid_simultaneous=f)).objectives, reference, WEIGHTS)[0]
        for f in (False, True)
    )
    assert linear == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("name", ["plain", "no_pv", "no_bess", "no_feeder"])
@pytest.mark.parametrize("in_mid_session", [False, True])
def test_the_environment_does_what_the_plan_says(years_of, dataset_of, name, in_mid_session):
    years = years_of(name)
    no_control = dataset_of(name).no_control("test", 0)
    begun = years.tables.stays & years.tables.occupied
    start = START + (int(np.argmax(begun[START:].sum(axis=1) >= 2)) if in_mid_session else 0)
    assert no_control.closed_form_valid(start) != in_mid_session
    reference = no_control.reference(START, STEPS)
    best = solve_optimum(years, 0, start, STEPS, reference=reference, weights=WEIGHTS)
    kpis, objectives = replay(years, 0, start, best.actions)
    for key, planned in best.plan.kpis.items():
        expected = planned if planned is None else pytest.approx(planned, rel=1e-5, abs=2e-3)
        assert kpis[key] == expected, key
    np.testing.assert_allclose(objectives, best.plan.objectives, rtol=1e-5, atol=1e-3)
    assert score(objectives, reference, WEIGHTS)[0] == pytest.approx(best.score, rel=1e-5)


def test_the_whole_year_is_solved_and_replayed(years, no_control):
    best = optimum(years, no_control, 0, None)
    assert len(best.actions) == 8759
    kpis, _ = replay(years, 0, 0, best.actions)
    for key in ("grid_import_kwh", "ev_satisfaction", "cost_usd", "mean_daily_peak_kw", "ev_departures"):
        assert kpis[key] == pytest.approx(best.plan.kpis[key], rel=1e-4), key


def test_the_plan_keeps_every_limit(years, best):
    site = window_of(years, 0, START, STEPS)
    plan, bess, s = best.plan, site.bess, site.sessions
    assert bess is not None
    assert plan.sockets_kw.sum(axis=1).max() <= site.limit_kw + 1e-6
    assert np.all(plan.sockets_kw <= site.rated_kw + 1e-9)
    assert np.all(plan.sockets_kw >= 0)
    occupied = years.tables.occupied[START : START + STEPS]
    assert np.all(plan.sockets_kw[~occupied] == 0)
    assert plan.bess_kwh.min() >= bess.floor_kwh - 1e-6
    assert plan.bess_kwh.max() <= bess.capacity_kwh + 1e-6
    assert np.abs(plan.bess_kw).max() <= bess.power_kw + 1e-9
    for k in range(len(s)):
        drawn = plan.sockets_kw[s.first[k] : s.last[k] + 1, s.socket[k]].sum()
        assert drawn * s.efficiency[k] <= s.room_kwh[k] + 1e-6
    assert best.actions.min() >= -1
    assert best.actions.max() <= 1
    assert np.all(best.actions[:, 1:] >= 0)


def test_every_session_and_departure_of_the_window_is_in_it(years):
    for start, steps in ((START, STEPS), (START + 18, 50), (START + 11, 3)):
        site = window_of(years, 0, start, steps)
        rows = slice(start, start + steps)
        present = np.zeros_like(years.tables.occupied[rows])
        s = site.sessions
        for k in range(len(s)):
            assert not present[s.first[k] : s.last[k] + 1, s.socket[k]].any()
            present[s.first[k] : s.last[k] + 1, s.socket[k]] = True
        np.testing.assert_array_equal(present, years.tables.occupied[rows])
        assert s.departures.sum() == years.tables.departures[rows].sum()


def test_no_policy_scores_below_it(years, no_control, best):
    reference = no_control.reference(START, STEPS)
    shape = best.actions.shape
    for seed in range(4):
        rng = np.random.default_rng(seed)
        everything = rng.uniform(0, 1, shape)
        everything[:, 0] = rng.uniform(-1, 1, len(everything))
        # The optimum, disturbed: a bound that is too high would be undercut from here.
        near = best.actions + rng.normal(0, 0.02, shape) * (rng.uniform(size=shape) < 0.1)
        for actions in (everything, near):
            actions = np.clip(actions, [-1, *[0] * (shape[1] - 1)], 1).astype(np.float32)
            assert score(replay(years, 0, START, actions)[1], reference, WEIGHTS)[0] > best.score


def test_no_simple_rule_scores_below_it(years, no_control, best):
    reference = no_control.reference(START, STEPS)

    def plug_and_charge(engine, step):
        load_kwh, pv_kwh = engine.years.tables.hours[START + step, :2]
        action = engine.ready.astype(np.float32)
        draw = min(4.2, float((action * [2, 2, 3]).sum()))
        return np.concatenate([[[np.clip((pv_kwh - load_kwh - draw) / 8.0, -1, 1)]], action], axis=1)

    reached = score(drive(years, 0, START, STEPS, plug_and_charge)[1], reference, WEIGHTS)[0]
    assert best.score < reached < 1


def test_each_weight_alone_has_its_own_optimum(years, no_control):
    reference = no_control.reference(START, 7 * 24)
    site = window_of(years, 0, START, 7 * 24)
    alone = [[float(i == j) for j in range(5)] for i in range(5)]
    values = []
    for row in [*alone, list(WEIGHTS.as_tuple())]:
        weights = RewardWeights(**{f"{n}_weight": w for n, w in zip(OBJECTIVES, row, strict=True)})
        found = plan_of(site, Programme(site, score_goal(site, reference, weights)).solve())
        values.append(found.objectives)
    columns = np.array(values)
    for number in range(5):
        others = np.delete(columns[:, number], number)
        assert np.all(columns[number, number] <= others + 1e-3 * np.abs(others) + 1e-6), OBJECTIVES[number]
        assert np.any(columns[number, number] < 0.99 * others), OBJECTIVES[number]


@pytest.mark.parametrize("block_days", [1, 7])
def test_blocks_of_days_are_nearly_as_good_as_all_hours_at_once(years, no_control, best, block_days):
    blocks = optimum(years, no_control, block_days=block_days)
    assert best.score * (1 - 1e-6) <= blocks.score <= best.score * 1.001
    kpis, _ = replay(years, 0, START, blocks.actions)
    assert kpis["grid_import_kwh"] == pytest.approx(blocks.plan.kpis["grid_import_kwh"], rel=1e-5)


def test_satisfaction_comes_first_if_asked_for(years, no_control):
    first = optimum(years, no_control, minimise="import", least_satisfaction="most")
    some = optimum(years, no_control, minimise="import", least_satisfaction=0.8)
    nobody = optimum(years, no_control, minimise="import")
    served = [o.plan.kpis["ev_satisfaction"] for o in (nobody, some, first)]
    imported = [o.plan.kpis["grid_import_kwh"] for o in (nobody, some, first)]
    assert some.plan.kpis["ev_satisfaction"] == pytest.approx(0.8, abs=1e-6)
    assert served == sorted(served)
    assert imported == sorted(imported)
    with pytest.raises(ValueError, match="more than anything reaches"):
        optimum(years, no_control, least_satisfaction=served[-1] + 1e-3)
    with pytest.raises(ValueError, match="leave out block_days"):
        optimum(years, no_control, least_satisfaction=0.5, block_days=1)


def test_the_frontier_is_convex_and_agrees_with_a_least_satisfaction(years, no_control):
    site = window_of(years, 0, START, STEPS)
    points = frontier(site, points=7)
    x = np.array([p.satisfaction for p in points])
    y = np.array([p.grid_import_kwh for p in points])
    assert len(points) == 7
    assert np.all(np.diff(x) > 0)
    assert np.all(np.diff(y) >= -1e-6)
    slopes = np.diff(y) / np.diff(x)
    assert np.all(np.diff(slopes) >= -1e-3 * np.abs(slopes[:-1]) - 1e-6)
    middle = points[4]
    exact = optimum(years, no_control, minimise="import", least_satisfaction=middle.satisfaction)
    assert exact.plan.kpis["grid_import_kwh"] == pytest.approx(middle.grid_import_kwh, rel=1e-3)


def test_the_same_twice_is_the_same(years, no_control, best):
    again = optimum(years, no_control)
    np.testing.assert_array_equal(again.actions, best.actions)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("v2g", "sockets that discharge vehicles"),
        ("standby", "a BESS with standby losses"),
        ("wear", r"a BESS with wear \(capacity_loss_coefficient\)"),
    ],
)
def test_a_site_that_is_not_linear_is_refused_by_name(years_of, name, why):
    with pytest.raises(ValueError, match=why) as refusal:
        window_of(years_of(name))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("start", "steps"), [(-1, 5), (8758, 2), (0, 0)])
def test_hours_that_the_year_does_not_have_are_refused(years, start, steps):
    with pytest.raises(ValueError, match="are not a window of the year: its steps are rows 0 to 8758"):
        window_of(years, 0, start, steps)


def test_nobody_departing_leaves_no_frontier(years):
    with pytest.raises(ValueError, match="no vehicle departs"):
        frontier(window_of(years, 0, START, 3))


def test_hours_without_a_departure_are_solved(years):
    reference = NoControlReference((1.0, 1.0, 1.0, 0.0, 1.0), 3, 0.0, 0.0)
    best = solve_optimum(years, 0, START, 3, reference=reference, weights=WEIGHTS, least_satisfaction="most")
    assert best.plan.kpis["ev_satisfaction"] is None
