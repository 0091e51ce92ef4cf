"""The reward: minus one on average under no control, the same in a bare CityLearn environment."""

import shutil

import numpy as np
import pytest
from citylearn.citylearn import CityLearnEnv

from iquitos_rl.config import RewardWeights
from iquitos_rl.env import MultiObjectiveReward, make_env
from iquitos_rl.objectives import OBJECTIVES, NoControlReference, score
from iquitos_rl.site.storage import read_json, write_json
from tests.env.hours import increments
from tests.small_site import no_control_action, random_actions

START, STEPS = 24 * 3, 96
WEIGHTS = RewardWeights(
    co2_weight=0.3, solar_weight=0.3, cost_weight=0.2, ev_satisfaction_weight=0.1, grid_stability_weight=0.1
)


@pytest.fixture(scope="module")
def reference(dataset):
    """No control over the window that the tests run."""
    return dataset.no_control("train").reference(START, STEPS)


@pytest.fixture(scope="module")
def env(dataset, engine, reference):
    return make_env(
        dataset.schema_path("train"),
        engine,
        mask_idle=False,
        episode_steps=STEPS,
        start_step=START,
        reference=reference,
        weights=WEIGHTS,
    )


def roll_out(env, actions):
    """Rewards and their components, and the sum of the objectives' increments."""
    env.reset()
    rewards, components, objectives = [], [], np.zeros(5)
    for action in actions:
        _, reward, _, _, info = env.step(action)
        rewards.append(reward)
        components.append(list(info["reward_components"].values()))
        objectives += increments(env)
    assert list(info["reward_components"]) == list(OBJECTIVES)
    return np.array(rewards), np.array(components), objectives


def test_no_control_averages_minus_one_and_its_objectives_are_the_references(env, reference):
    rewards, components, objectives = roll_out(env, [no_control_action(env)] * STEPS)
    assert rewards.mean() == pytest.approx(-1, rel=1e-4)
    assert components.mean(axis=0) == pytest.approx(-np.array(WEIGHTS.as_tuple()), rel=1e-4)
    assert objectives == pytest.approx(reference.objectives, rel=1e-4)
    assert score(objectives, reference, WEIGHTS)[0] == pytest.approx(1, rel=1e-4)


def test_components_sum_to_the_reward_and_rewards_to_minus_the_score(env, reference):
    rewards, components, objectives = roll_out(env, random_actions(env, STEPS))
    assert components.sum(axis=1) == pytest.approx(rewards, rel=1e-12)
    assert rewards.sum() == pytest.approx(-score(objectives, reference, WEIGHTS)[0] * STEPS, rel=1e-9)


def test_a_second_episode_starts_with_no_peak_and_the_initial_bess(env):
    actions = random_actions(env, 30, seed=5)
    first, second = roll_out(env, actions)[0], roll_out(env, actions)[0]
    assert np.array_equal(first, second)


def test_a_window_that_begins_after_midnight_counts_its_own_peak_only(env):
    env.reset(options={"start_step": START + 20})
    imports, peaks = [], []
    for _ in range(8):
        info = env.step(no_control_action(env))[4]
        imports.append(info["grid_import_kwh"])
        peaks.append(info["day_peak_kw"])
    assert peaks == pytest.approx([*np.maximum.accumulate(imports[:4]), *np.maximum.accumulate(imports[4:])])


@pytest.mark.integration
def test_it_is_the_same_in_a_bare_citylearn_env_made_from_plain_mappings(dataset, reference):
    env = make_env(
        dataset.schema_path("train"),
        "citylearn",
        mask_idle=False,
        episode_steps=STEPS,
        start_step=START,
        reference=reference,
        weights=WEIGHTS,
    )
    bare = CityLearnEnv(
        str(dataset.schema_path("train")),
        central_agent=True,
        reward_function=MultiObjectiveReward,
        reward_function_kwargs={"weights": WEIGHTS.model_dump(), "reference": reference.to_json()},
        episode_time_steps=[(START, START + STEPS + 3)],
    )
    bare.reset()
    actions = random_actions(env, 48, seed=2)
    expected, components, _ = roll_out(env, actions)
    for action, reward, parts in zip(actions, expected, components, strict=True):
        _, rewards, *_ = bare.step([action.astype(float).tolist()])
        assert rewards == [pytest.approx(reward, rel=1e-9)]
        own = bare.reward_function.component_dict()
        assert list(own.values()) == pytest.approx(parts, rel=1e-9)


@pytest.mark.integration
def test_a_reward_without_a_reference_is_refused(dataset):
    with pytest.raises(ValueError, match="needs a no-control reference"):
        MultiObjectiveReward({})
    with pytest.raises(ValueError, match="needs a no-control reference"):
        CityLearnEnv(
            str(dataset.schema_path("train")), central_agent=True, reward_function=MultiObjectiveReward
        )


def test_weights_that_do_not_sum_to_one_are_refused(reference):
    with pytest.raises(ValueError, match="sum to 1"):
        MultiObjectiveReward({}, reference=reference, weights={"co2_weight": 1.0})


def test_before_the_first_step_every_component_is_zero(reference):
    assert MultiObjectiveReward({}, reference=reference).component_dict() == dict.fromkeys(OBJECTIVES, 0.0)


@pytest.mark.integration
def test_vehicle_to_grid_sockets_ask_for_bind(dataset_of):
    bare = CityLearnEnv(
        str(dataset_of("v2g").schema_path("train")),
        central_agent=True,
        reward_function=MultiObjectiveReward,
        reward_function_kwargs={"reference": NoControlReference((1.0,) * 5, 1, 1, 1)},
        episode_time_steps=[(0, 24)],
    )
    bare.reset()
    with pytest.raises(RuntimeError, match="bind"):
        bare.step([[0.0] * 4])
    bare.reward_function.bind(bare)
    bare.reset()
    bare.step([[0.0] * 4])


def test_each_years_factor_for_unserved_energy_is_in_its_co2(dataset, engine, reference, tmp_path):
    folder = shutil.copytree(dataset.year_path("train"), tmp_path / "year")
    schema = read_json(folder / "schema.json")
    assert schema["iquitos_rl"]["unserved_energy_kg_per_kwh"] == 2.146
    schema["iquitos_rl"]["unserved_energy_kg_per_kwh"] = 7.5
    write_json(schema, folder / "schema.json")
    schemas = [dataset.schema_path("train"), folder / "schema.json"]
    env = make_env(schemas, engine, episode_steps=24, reference=reference)
    for year, factor in ((0, 2.146), (1, 7.5), (0, 2.146)):
        env.reset(options={"year": year, "start_step": START})
        unserved = 0.0
        for _ in range(24):
            info = env.step(0 * no_control_action(env))[4]  # nobody is charged
            unserved += info["unserved_energy_kwh"]
            expected = info["grid_import_kwh"] * info["carbon_intensity_kg_per_kwh"]
            expected += info["unserved_energy_kwh"] * factor
            assert increments(env)[OBJECTIVES.index("co2")] == pytest.approx(expected, rel=1e-6)
        assert unserved > 5
