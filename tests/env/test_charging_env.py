"""The environment keeps Gymnasium's contract, whatever simulates it: spaces, starts, ends, seeds, errors."""

import json
import logging
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from iquitos_rl.config import load_site
from iquitos_rl.config.site import GASOLINE_KG_PER_KWH
from iquitos_rl.env import EVChargingEnv, make_env
from iquitos_rl.env.episodes import Windows
from iquitos_rl.env.no_control import rollout_reference
from iquitos_rl.objectives import OBJECTIVES, NoControlReference
from iquitos_rl.site import build_dataset
from tests.small_site import STATION, no_control_action, random_actions, small_site


@pytest.fixture(scope="module")
def env(dataset, engine):
    """Windows of a day of the first training year."""
    return make_env(dataset.schema_path("train"), engine, episode_steps=24)


@pytest.fixture(scope="module")
def two_years(dataset, engine):
    """Windows of a day that begins with any hour of two years."""
    schemas = [dataset.schema_path("train", year) for year in range(2)]
    return make_env(schemas, engine, episode_steps=24, random_start="hour")


@pytest.mark.parametrize("kind", ["features", "raw"])
def test_gymnasiums_checker_is_content(dataset, engine, kind):
    env = make_env(
        dataset.schema_path("train"), engine, observation=kind, episode_steps=48, random_start="day"
    )
    with warnings.catch_warnings():
        # Style advice: the raw vector is unbounded on purpose, CityLearn's own bounds being estimates.
        warnings.filterwarnings("ignore", r".*Box observation space (min|max)imum value is -?infinity")
        check_env(env, skip_render_check=True)


def test_the_spaces_are_those_of_the_documentation(env):
    assert env.action_space.shape == (4,)
    assert env.action_space.low.tolist() == [-1, 0, 0, 0]
    assert env.action_space.high.tolist() == [1, 1, 1, 1]
    assert env.action_names == ["bess", "moto_001", "moto_002", "mototaxi_001"]
    assert env.observation_space.shape == (22 + 7 * 3,)
    assert env.observation_names == env.layout.names
    assert env.has_bess


def test_what_is_of_one_engine_only_says_so_on_the_other(env, engine):
    missing, there = ("site", "engine") if engine == "batch" else ("engine", "site")
    with pytest.raises(AttributeError, match="CityLearn"):
        getattr(env, missing)
    assert hasattr(env, there)
    assert env.observation_layout == env.layout.to_json()


def test_windows_are_truncated_and_not_terminated(env):
    _, info = env.reset(options={"start_step": 48})
    assert info == {"year": 0, "start_step": 48, "bess_stored_kwh": pytest.approx(3.0)}
    ends = [env.step(no_control_action(env))[2:4] for _ in range(24)]
    assert ends == [(False, False)] * 23 + [(False, True)]


def test_only_the_end_of_the_data_terminates(env):
    for start, last in ((8759 - 25, (False, True)), (8759 - 24, (True, False))):
        env.reset(options={"start_step": start})
        for step in range(24):
            observation, _, *ends, info = env.step(no_control_action(env))
            assert tuple(ends) == (last if step == 23 else (False, False))
            assert observation in env.observation_space
        assert info["hour_of_year"] == start + 23


def test_an_episode_without_a_length_goes_to_the_end_of_the_data(dataset, engine):
    env = make_env(dataset.schema_path("train"), engine, start_step=8750)
    assert env.episode_steps == 9
    env.reset()
    assert [env.step(no_control_action(env))[2] for _ in range(9)] == [False] * 8 + [True]
    assert Windows([8760], None, None, 0).steps == 8759


def test_the_same_seed_gives_the_same_trajectory(two_years):
    env = two_years

    def trajectory(seed):
        steps = []
        for episode in range(3):
            observation, info = env.reset(seed=seed if episode == 0 else None)
            steps += [observation, info["year"], info["start_step"]]
            for action in random_actions(env, 6, seed=seed):
                observation, reward, *_ = env.step(action)
                steps += [observation, reward]
        return np.concatenate([np.ravel(part) for part in steps])

    assert np.array_equal(trajectory(3), trajectory(3))
    assert not np.array_equal(trajectory(3), trajectory(4))


def test_an_environment_draws_its_windows_from_the_seed_and_the_stream(dataset, engine):
    schemas = [dataset.schema_path("train", year) for year in range(2)]
    options = {"episode_steps": 24, "random_start": "day"}

    def windows(env):
        infos = [env.reset(seed=seed)[1] for seed in (7, None, None, 8)]
        return [(info["year"], info["start_step"]) for info in infos]

    env = make_env(schemas, engine, **options)
    assert windows(env) == windows(env)
    assert len(set(windows(env))) == 4
    stream = make_env(schemas, engine, seed_stream=1, **options)
    assert windows(stream) == windows(stream) != windows(env)


def test_a_vehicle_met_in_mid_session_has_its_batterys_initial_soc(env, dataset):
    busy = dataset.no_control("train").hourly["sessions_in_progress"].to_numpy()
    schema = json.loads(dataset.schema_path("train").read_text())
    vehicles = schema["electric_vehicles_def"].values()
    (initial,) = {vehicle["battery"]["attributes"]["initial_soc"] for vehicle in vehicles}
    start = int(np.flatnonzero(busy == 2)[0])
    observation, _ = env.reset(options={"start_step": start})
    shown = dict(zip(env.layout.names, observation, strict=True))
    occupied = [name for name in env.layout.sockets if shown[f"{name}.occupied"]]
    assert sum(shown[f"{name}.soc"] == pytest.approx(initial) for name in occupied) >= 2


def test_the_years_are_drawn_at_random_and_can_be_chosen(two_years, dataset):
    env = two_years
    env.reset(seed=0)
    assert {env.reset()[1]["year"] for _ in range(12)} == {0, 1}
    generation = []
    for year in range(2):
        assert env.reset(options={"year": year, "start_step": 0})[1]["year"] == year
        generation.append(sum(env.step(no_control_action(env))[4]["pv_generation_kwh"] for _ in range(24)))
        stored = dataset.no_control("train", year).hourly["pv_generation_kwh"][:24].sum()
        assert generation[-1] == pytest.approx(stored, rel=1e-5)
    assert generation[0] != pytest.approx(generation[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"year": 1}, "year 1: there are 1"),
        ({"year": -1}, "year -1"),
        ({"start_step": -1}, "start_step -1 leaves no room"),
        ({"start_step": 8736}, "start_step 8736 leaves no room for 24 of 8759 steps"),
    ],
)
def test_reset_options_outside_the_data_are_refused(env, options, said):
    with pytest.raises(ValueError, match=said):
        env.reset(options=options)
    env.reset()  # and the environment still works
    env.step(no_control_action(env))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"observation": "all"}, "expected 'features' or 'raw'"),
        ({"random_start": "week"}, "expected 'day', 'hour' or None"),
        ({"episode_steps": 8760}, "the data has 8759 steps"),
        ({"episode_steps": 0}, "episode_steps 0"),
        ({"episode_steps": 24, "start_step": 8736}, "start_step 8736: the data has 8759 steps"),
        ({"weights": {"co2_weight": 0.6}}, "sum to 1"),
    ],
)
def test_arguments_that_contradict_the_data_are_refused(dataset, engine, arguments, said):
    with pytest.raises(ValueError, match=said):
        make_env(dataset.schema_path("train"), engine, **arguments)


def test_a_missing_schema_says_how_to_make_one(tmp_path, engine):
    with pytest.raises(FileNotFoundError, match=r"make one with: iquitos-rl dataset build$"):
        make_env(tmp_path / "schema.json", engine)
    with pytest.raises(FileNotFoundError, match=r"make one with: iquitos-rl dataset build --out .*station$"):
        make_env(tmp_path / "station/test/year_0/schema.json", engine)
    with pytest.raises(ValueError, match="no schema given"):
        EVChargingEnv([], engine=engine)


@pytest.mark.integration
def test_citylearn_refuses_a_year_of_another_site_when_it_is_first_used(dataset, dataset_of):
    other = dataset_of("v2g").schema_path("train")
    env = make_env([dataset.schema_path("train"), other], "citylearn", episode_steps=24)
    with pytest.raises(ValueError, match="other sockets, or another number of rows, than"):
        env.reset(options={"year": 1})


def test_the_batch_engine_refuses_years_of_different_sites_at_once(dataset, dataset_of):
    other = dataset_of("v2g").schema_path("train")
    with pytest.raises(ValueError, match="other sockets than"):
        make_env([dataset.schema_path("train"), other], episode_steps=24)


@pytest.mark.parametrize("action", [np.ones(3), np.ones(5), np.ones((1, 4)), np.float32(1)])
def test_an_action_of_the_wrong_shape_is_refused(env, action):
    env.reset()
    with pytest.raises(ValueError, match=r"expected \(4,\)"):
        env.step(action)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused_before_anything_happens(env, value):
    env.reset()
    action = no_control_action(env)
    action[2] = value
    with pytest.raises(ValueError, match="not finite"):
        env.step(action)
    assert env.step(no_control_action(env))[4]["hour_of_year"] == 0


def test_actions_beyond_the_bounds_are_the_bounds(env):
    def net(scale):
        env.reset(options={"start_step": 24 * 3})
        steps = [env.step(scale * np.array([1, 1, 1, 1], np.float32)) for _ in range(20)]
        return [info["grid_import_kwh"] for *_, info in steps]

    assert net(1) == net(7)


@pytest.mark.parametrize("missing", ["no_pv", "no_bess"])
def test_sites_without_pv_or_without_a_bess_work(dataset_of, engine, missing):
    dataset = dataset_of(missing)
    env = make_env(dataset.schema_path("train"), engine, episode_steps=48)
    assert env.has_bess == (missing == "no_pv")
    assert env.action_space.shape == (4 if env.has_bess else 3,)
    assert ("bess" in env.action_names) == env.has_bess
    observation, info = env.reset()
    solar = 0.0
    for action in random_actions(env, 48):
        assert observation in env.observation_space
        observation, reward, _, _, info = env.step(action)
        assert np.isfinite(reward)
        solar += info["reward_components"]["solar"]
        assert reward == pytest.approx(sum(info["reward_components"].values()))
    assert (solar == 0) == (missing == "no_pv")
    if missing == "no_pv":
        assert env.reference.left_out == ("solar",)
        assert observation[env.layout.index("pv")] == 0
    else:
        assert info["bess_stored_kwh"] == info["bess_charge_kwh"] == info["storage_losses_kwh"] == 0


def test_without_a_reference_the_stored_years_mean_is_used(dataset, engine, two_years):
    schemas = [dataset.schema_path("train", year) for year in range(2)]
    years = [dataset.no_control("train", year).reference() for year in range(2)]
    stored = NoControlReference.mean(years)
    assert two_years.reference.objectives == pytest.approx(stored.objectives, rel=1e-6)
    second = make_env(schemas[1], engine)
    assert second.reference.objectives == pytest.approx(years[1].objectives, rel=1e-6)
    as_json = json.loads(json.dumps(stored.to_json()))
    assert make_env(schemas[0], engine, reference=as_json).reference == stored


@pytest.fixture(scope="module")
def without_stored_values(tmp_path_factory):
    """A site of one socket whose test year has lost its no-control values, and what they were."""
    site = small_site(
        sockets=[{**small_site().sockets[0].model_dump(mode="json"), "count": 1}],
        feeder_limit_kw=1.2,
        years={"train": 1, "validation": 1, "test": 1},
    )
    dataset = build_dataset(site, tmp_path_factory.mktemp("one") / "one", seed=1)
    expected = dataset.no_control("test").reference()
    (dataset.year_path("test") / "no_control.json").unlink()
    return dataset.schema_path("test"), expected


@pytest.mark.parametrize(
    "name", ["batch", pytest.param("citylearn", marks=[pytest.mark.integration, pytest.mark.slow])]
)
def test_without_stored_values_no_control_is_rolled_out_and_gives_the_same(
    without_stored_values, caplog, name
):
    schema, expected = without_stored_values
    with caplog.at_level(logging.INFO, "iquitos_rl"):
        env = make_env(schema, name)
    assert "no stored no-control values: simulating 8759 hours" in caplog.text
    assert env.reference.objectives == pytest.approx(expected.objectives, rel=1e-4)
    assert env.reference.pv_generation_kwh == pytest.approx(expected.pv_generation_kwh, rel=1e-5)
    assert (env.reference.departures, env.reference.steps) == (expected.departures, 8759)


@pytest.mark.parametrize("name", ["plain", "no_pv", "no_bess"])
def test_a_window_rolled_out_is_the_closed_form(dataset_of, engine, name):
    dataset = dataset_of(name)
    env = make_env(dataset.schema_path("train"), engine, episode_steps=24)
    rolled = rollout_reference(env.simulator, 0, 72, 96, GASOLINE_KG_PER_KWH)
    closed = dataset.no_control("train").reference(72, 96)
    assert rolled.objectives == pytest.approx(closed.objectives, rel=1e-4, abs=1e-4)
    assert rolled.departures == closed.departures
    assert rolled.left_out == closed.left_out


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    """The documented station, with one year of each kind."""
    overrides = [f"years.{split}=1" for split in ("train", "validation", "test")]
    return build_dataset(load_site(STATION, overrides), tmp_path_factory.mktemp("station") / "all", seed=1)


def test_the_documented_station_has_918_features_and_129_actions(station, engine):
    env = make_env(station.schema_path("train"), engine, episode_steps=24)
    assert env.observation_space.shape == (918,)
    assert env.action_space.shape == (129,)
    assert len(OBJECTIVES) == 5
    observation, _ = env.reset()
    for action in random_actions(env, 12):
        observation, *_ = env.step(action)
    assert observation in env.observation_space
