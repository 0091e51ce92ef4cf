"""What the environment shows is what the tables say and what has just happened, on either engine."""

import numpy as np
import pytest
from citylearn.citylearn import CityLearnEnv

from iquitos_rl.env import make_env
from iquitos_rl.site.storage import read_json, read_table
from tests.env.hours import sockets_kwh
from tests.small_site import random_actions

START, STEPS = 24 * 3, 48


def socket_tables(dataset, env):
    folder = dataset.year_path("train") / "chargers"
    return [read_table(folder / f"{name}.parquet") for name in env.layout.sockets]


@pytest.fixture(scope="module")
def trajectory(dataset, engine):
    """Two days of random actions without a mask: environment, observations, and each socket's consumption."""
    schema = dataset.schema_path("train")
    env = make_env(schema, engine, mask_idle=False, start_step=START, episode_steps=STEPS)
    observation, _ = env.reset()
    observations, infos, drawn = [observation], [], []
    for action in random_actions(env, STEPS):
        observation, _, _, _, info = env.step(action)
        observations.append(observation)
        infos.append(info)
        drawn.append(sockets_kwh(env))
    return env, np.array(observations), infos, np.array(drawn)


def test_observations_stay_within_their_bounds(trajectory):
    env, observations, _, _ = trajectory
    assert observations.dtype == np.float32
    assert all(env.observation_space.contains(row) for row in observations)


def test_every_vehicles_soc_gap_and_laxity_follow_from_its_session(trajectory, dataset):
    env, observations, _, drawn = trajectory
    seen = 0
    schema = read_json(dataset.schema_path("train"))
    (building,) = schema["buildings"].values()
    vehicles = schema["electric_vehicles_def"]
    kwh = {name: vehicle["battery"]["attributes"]["capacity"] for name, vehicle in vehicles.items()}
    for number, table in enumerate(socket_tables(dataset, env)):
        charger = building["chargers"][env.layout.sockets[number]]["attributes"]
        session_ids = table["electric_vehicle_session_id"].tolist()
        connected = (table["electric_vehicle_charger_state"] == 1).tolist()
        capacity = kwh[f"ev_{env.layout.sockets[number]}"]
        soc, before = 0.0, None
        for t in range(STEPS):
            row = START + t
            block = dict(zip(env.layout.names, observations[t], strict=True))
            name = env.layout.sockets[number]
            shown = {key.partition(".")[2]: v for key, v in block.items() if key.startswith(f"{name}.")}
            assert shown["occupied"] == connected[row]
            assert shown["rated_power"] == pytest.approx(charger["max_charging_power"] / 3.0)
            if not connected[row]:
                assert [v for key, v in shown.items() if key != "rated_power"] == [0] * 6
                before = None
                continue
            seen += 1
            if session_ids[row] != before:
                soc = table["electric_vehicle_estimated_soc_arrival"][row] / 100
                before = session_ids[row]
            hours = next(k for k in range(1, 99) if session_ids[row + k] != before)
            gap = max(0.0, table["electric_vehicle_required_soc_departure"][row] / 100 - soc)
            needed = gap * capacity / 0.95
            assert shown["soc"] == pytest.approx(soc, abs=1e-5)
            assert shown["soc_gap"] == pytest.approx(gap, abs=1e-5)
            assert shown["hours_to_departure"] == pytest.approx(min(1, hours / 12))
            laxity = (hours - needed / charger["max_charging_power"]) / 6
            assert shown["laxity"] == pytest.approx(np.clip(laxity, -1, 1), abs=1e-5)
            assert shown["energy_needed"] == pytest.approx(needed / max(kwh.values()), abs=1e-5)
            soc += drawn[t, number] * 0.95 / capacity
    assert seen > 20


def test_the_sites_features_are_the_tables_and_what_has_just_happened(trajectory, dataset):
    env, observations, infos, _ = trajectory
    folder = dataset.year_path("train")
    load = read_table(folder / "building.parquet")["non_shiftable_load"].to_numpy()
    pv = dataset.no_control("train").hourly["pv_generation_kwh"].to_numpy()
    scale = max(dataset.site.feeder_limit_kw + 2 * load.mean(), 12)
    peak = 0.0
    for t in range(1, STEPS):
        row, last = START + t, infos[t - 1]
        shown = dict(zip(env.layout.names, observations[t], strict=True))
        for ahead, name in enumerate(["pv", "pv_next_1", "pv_next_2", "pv_next_3"]):
            assert shown[name] == pytest.approx(pv[row + ahead] / 12, abs=1e-5)
        for ahead, name in enumerate(["price", "price_next_1", "price_next_2", "price_next_3"]):
            price = 0.3 if 18 <= (row + ahead) % 24 < 23 else 0.2
            assert shown[name] == pytest.approx(price / 0.3)
        assert shown["load"] == pytest.approx(min(2, load[row] / (2 * load.mean())), abs=1e-5)
        assert shown["hour_sin"] == pytest.approx(np.sin(2 * np.pi * row / 24), abs=1e-6)
        assert shown["week_cos"] == pytest.approx(np.cos(2 * np.pi * (row // 24 % 7) / 7), abs=1e-6)
        assert shown["bess_soc"] == pytest.approx(last["bess_stored_kwh"] / 15, abs=1e-6)
        net = last["grid_import_kwh"] - last["grid_export_kwh"]
        assert shown["previous_net_consumption"] == pytest.approx(net / scale, abs=1e-6)
        peak = max(peak, last["grid_import_kwh"]) if row % 24 else 0.0
        assert shown["day_peak"] == pytest.approx(peak / scale, abs=1e-6)
        occupied = [shown[f"{name}.occupied"] for name in env.layout.sockets]
        assert shown["occupancy"] == pytest.approx(np.mean(occupied))


@pytest.mark.integration
def test_raw_is_citylearns_own_vector_hour_by_hour(dataset):
    schema = dataset.schema_path("train")
    env = make_env(schema, "citylearn", observation="raw", mask_idle=False, episode_steps=STEPS)
    bare = CityLearnEnv(str(schema), central_agent=True)
    assert env.observation_names == bare.observation_names[0]
    assert env.action_names == ["bess", *env.layout.sockets]
    assert [name.removeprefix("electric_vehicle_storage_") for name in bare.action_names[0]] == [
        "electrical_storage",
        *env.layout.sockets,
    ]
    observation, _ = env.reset()
    expected, _ = bare.reset()
    for action in random_actions(env, STEPS, seed=1):
        assert np.array_equal(observation, np.array(expected[0], np.float32))
        assert observation in env.observation_space
        observation, *_ = env.step(action)
        expected, *_ = bare.step([action.astype(float).tolist()])
    assert np.array_equal(observation, np.array(expected[0], np.float32))


@pytest.mark.parametrize("kind", ["features", "raw"])
def test_the_observation_after_a_window_is_the_one_that_a_longer_window_sees(dataset, engine, kind):
    """Learners bootstrap from it; CityLearn itself would show the hour before."""
    schema = dataset.schema_path("train")
    short = make_env(schema, engine, observation=kind, start_step=START, episode_steps=24)
    long = make_env(schema, engine, observation=kind, start_step=START, episode_steps=30)
    short.reset(), long.reset()
    for step, action in enumerate(random_actions(short, 24)):
        last, _, _, truncated, info = short.step(action)
        same, _, _, still_running, same_info = long.step(action)
        assert truncated == (step == 23)
        assert not still_running
        assert np.array_equal(last, same)
        assert info == same_info
