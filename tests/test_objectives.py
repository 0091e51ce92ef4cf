"""The five objectives, the reward of a step and the score of an episode."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from iquitos_rl.config import RewardWeights
from iquitos_rl.objectives import (
    OBJECTIVES,
    FlowIncrements,
    NoControlReference,
    objective_increments,
    peak_rise_kw,
    satisfaction,
    score,
    step_reward,
    unserved_energy_kwh,
)

WEIGHTS = RewardWeights()
REFERENCE = NoControlReference(
    (400.0, 60.0, 90.0, 8.0, 120.0), steps=24, pv_generation_kwh=500, departures=40
)

amounts = st.floats(0, 1e6, allow_subnormal=False)
weight_vectors = st.lists(st.floats(0.01, 1), min_size=5, max_size=5)


def weights_from(values):
    names = RewardWeights.model_fields
    return RewardWeights(**dict(zip(names, np.array(values) / sum(values), strict=True)))


@pytest.mark.parametrize(
    ("soc", "required", "expected"),
    [
        (0.45, 0.9, 0.5),
        (0.9, 0.9, 1.0),
        (1.0, 0.9, 1.0),
        (0.0, 0.9, 0.0),
        (0.0, 0.0, 1.0),
        (0.3, math.nan, 1.0),
    ],
)
def test_satisfaction_is_the_share_of_the_required_soc_and_at_most_one(soc, required, expected):
    assert satisfaction(soc, required) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("soc", "required", "capacity", "expected"),
    [
        (0.5, 0.9, 3.0, 1.2),
        (0.95, 0.9, 3.0, 0.0),
        (0.0, 1.0, 7.2, 7.2),
        (0.2, 0.0, 3.0, 0.0),
        (0.2, math.nan, 3, 0),
    ],
)
def test_unserved_energy_is_what_lacks_to_the_required_soc(soc, required, capacity, expected):
    assert unserved_energy_kwh(soc, required, capacity) == pytest.approx(expected)


def test_a_missing_requirement_among_others_does_not_touch_them():
    soc, required = [0.45, 0.2, 0.3], [0.9, math.nan, 0.0]
    assert satisfaction(soc, required).tolist() == [0.5, 1.0, 1.0]
    assert unserved_energy_kwh(soc, required, [2.0, 2.0, 2.0]).tolist() == [0.9, 0.0, 0.0]


@given(st.lists(amounts, min_size=1, max_size=24))
def test_the_rises_of_a_day_add_up_to_its_peak(imports):
    peak, rises = 0.0, []
    for value in imports:
        rises.append(float(peak_rise_kw(value, peak)))
        peak += rises[-1]
    assert min(rises) >= 0
    assert sum(rises) == pytest.approx(max(imports))


def test_increments_of_an_hour_by_hand():
    flows = FlowIncrements(
        grid_import_kwh=10.0,
        grid_export_kwh=2.0,
        storage_loss_kwh=0.5,
        unserved_kwh=3.0,
        shortfall=0.7,
        peak_rise_kw=4.0,
        carbon_intensity_kg_per_kwh=0.4521,
        price_usd_per_kwh=0.3,
        unserved_kg_per_kwh=2.146,
    )
    assert objective_increments(flows) == pytest.approx([4.521 + 6.438, 2.5, 3.0, 0.7, 4.0])


def test_increments_of_many_hours_of_many_environments_have_the_objectives_last():
    shape = (3, 24)
    imports = np.random.default_rng(0).random(shape)
    flows = FlowIncrements(
        imports, 0.0, np.zeros(24), 0.0, np.ones((3, 1)), imports, 0.5, np.full(24, 0.2), 2.0
    )
    increments = objective_increments(flows)
    assert increments.shape == (*shape, 5)
    assert increments[..., 0] == pytest.approx(imports * 0.5)
    assert increments[..., 2] == pytest.approx(imports * 0.2)
    assert (increments[..., 3] == 1).all()
    rewards = step_reward(increments, REFERENCE, WEIGHTS)
    assert rewards.shape == (*shape, 5)
    assert rewards[1, 7] == pytest.approx(step_reward(increments[1, 7], REFERENCE, WEIGHTS))


def test_no_control_scores_exactly_one():
    total, components = score(REFERENCE.objectives, REFERENCE, WEIGHTS)
    assert total == pytest.approx(1.0, abs=1e-15)
    assert components == pytest.approx(dict(zip(OBJECTIVES, WEIGHTS.as_tuple(), strict=True)))


def test_doing_twice_as_badly_in_one_objective_adds_its_weight():
    worse = list(REFERENCE.objectives)
    worse[2] *= 2
    assert score(worse, REFERENCE, WEIGHTS)[0] == pytest.approx(1.15)
    assert score([0.0] * 5, REFERENCE, WEIGHTS)[0] == 0


@given(weight_vectors, st.lists(amounts.map(lambda v: v + 1), min_size=5, max_size=5), st.integers(1, 8759))
def test_no_controls_steps_average_minus_one(weights, objectives, steps):
    reference = NoControlReference(tuple(objectives), steps, pv_generation_kwh=50, departures=50)
    mean_step = np.array(objectives) / steps
    assert step_reward(mean_step, reference, weights_from(weights)).sum() == pytest.approx(-1)


@given(
    weight_vectors,
    arrays.arrays(np.float64, st.tuples(st.integers(1, 30), st.just(5)), elements=amounts),
    st.lists(amounts, min_size=5, max_size=5),
    amounts,
    amounts,
)
def test_an_episodes_rewards_sum_to_minus_its_score_times_its_steps(
    weights, steps, objectives, pv, departures
):
    # pv and departures may be 0: then an objective is left out of both
    reference = NoControlReference(tuple(objectives), len(steps), pv, departures)
    weights = weights_from(weights)
    rewards = step_reward(steps, reference, weights)
    total, components = score(steps.sum(axis=0), reference, weights)
    assert rewards.sum() == pytest.approx(-total * len(steps), rel=1e-9)
    assert rewards.sum(axis=0) == pytest.approx(-np.array(list(components.values())) * len(steps), rel=1e-9)
    assert total == pytest.approx(sum(components.values()), rel=1e-12)
    assert total >= 0


def test_the_solar_divisor_is_at_least_a_hundredth_of_pv():
    reference = NoControlReference((1.0, 0.5, 1.0, 1.0, 1.0), 24, pv_generation_kwh=1000, departures=10)
    assert reference.divisors[1] == 10
    assert NoControlReference((1, 10.5, 1, 1, 1), 24, 1000, 10).divisors[1] == 10.5


def test_the_satisfaction_divisor_is_at_least_a_hundredth_of_departures():
    reference = NoControlReference((1.0, 1.0, 1.0, 0.0, 1.0), 24, pv_generation_kwh=1, departures=300)
    assert reference.divisors[3] == 3
    assert NoControlReference((1, 1, 1, 4.0, 1), 24, 1, 300).divisors[3] == 4


def test_no_divisor_is_zero():
    reference = NoControlReference((0.0,) * 5, 10, pv_generation_kwh=0, departures=0)
    assert reference.divisors.tolist() == [1e-6] * 5
    assert reference.divisors_per_step.tolist() == [1e-7] * 5


@pytest.mark.parametrize(
    ("pv", "departures", "left_out"),
    [(1, 1, ()), (0, 1, ("solar",)), (1, 0, ("ev_satisfaction",)), (0, 0, ("solar", "ev_satisfaction"))],
)
def test_objectives_that_mean_nothing_are_left_out_and_their_weight_is_shared(pv, departures, left_out):
    reference = NoControlReference((1.0,) * 5, 24, pv, departures)
    assert reference.left_out == left_out
    effective = dict(zip(OBJECTIVES, reference.effective_weights(WEIGHTS), strict=True))
    assert sum(effective.values()) == pytest.approx(1)
    plain = dict(zip(OBJECTIVES, WEIGHTS.as_tuple(), strict=True))
    for name, value in effective.items():
        if name in left_out:
            assert value == 0
        else:  # in proportion: the weights that are left keep their ratios
            assert value / effective["co2"] == pytest.approx(plain[name] / plain["co2"])
    assert score((1.0,) * 5, reference, WEIGHTS)[0] == pytest.approx(1)


def test_no_objective_left_is_an_error_that_says_why():
    only_solar = RewardWeights(
        co2_weight=0, solar_weight=1, cost_weight=0, ev_satisfaction_weight=0, grid_stability_weight=0
    )
    reference = NoControlReference((1.0,) * 5, 24, pv_generation_kwh=0, departures=5)
    with pytest.raises(ValueError, match="every objective with a weight is left out: the site has no PV"):
        reference.effective_weights(only_solar)


def test_weights_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match=r"sum to 1, they sum to 1\.1"):
        RewardWeights(co2_weight=0.6)


@pytest.mark.parametrize(("objectives", "steps"), [((1.0,) * 4, 1), ((1.0,) * 6, 1), ((1.0,) * 5, 0)])
def test_a_reference_of_the_wrong_length_or_of_no_hours_is_refused(objectives, steps):
    with pytest.raises(ValueError, match=r"expected 5 objectives|at least one hour"):
        NoControlReference(objectives, steps, 1, 1)


@given(st.lists(amounts, min_size=5, max_size=5), st.integers(1, 8759), amounts, st.integers(0, 10**5))
def test_a_reference_survives_json(objectives, steps, pv, departures):
    reference = NoControlReference(tuple(objectives), steps, pv, departures)
    assert NoControlReference.from_json(json.loads(json.dumps(reference.to_json()))) == reference


def test_json_without_a_value_is_refused():
    data = REFERENCE.to_json()
    del data["steps"]
    with pytest.raises(KeyError, match="steps"):
        NoControlReference.from_json(data)


def test_the_mean_over_years_is_the_mean_of_every_part():
    other = NoControlReference((200.0, 0.0, 10.0, 2.0, 80.0), steps=12, pv_generation_kwh=100, departures=10)
    assert NoControlReference.mean([REFERENCE, other]) == NoControlReference(
        (300.0, 30.0, 50.0, 5.0, 100.0), steps=18, pv_generation_kwh=300, departures=25
    )
    assert NoControlReference.mean([REFERENCE]) == REFERENCE
    with pytest.raises(ValueError, match="no references"):
        NoControlReference.mean([])


def test_over_equal_years_the_mean_reference_averages_no_control_to_minus_one():
    years = [
        NoControlReference((400.0, 60.0, 90.0, 8.0, 120.0), 100, 500, 40),
        NoControlReference((200.0, 20.0, 30.0, 4.0, 80.0), 100, 400, 30),
    ]
    mean = NoControlReference.mean(years)
    steps = [np.array(year.objectives) / year.steps for year in years]
    assert np.mean([step_reward(step, mean, WEIGHTS).sum() for step in steps]) == pytest.approx(-1)
