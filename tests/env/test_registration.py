"""One name for Gymnasium and Ray; several environments at once."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from iquitos_rl.env import ENV_ID, BatchVectorEnv, EVChargingEnv, make_env, make_vector_env, register
from tests.small_site import random_actions


@pytest.fixture(scope="module")
def create():
    """What RLlib calls with its env_config."""
    from ray.tune.registry import ENV_CREATOR, _global_registry

    register()
    return _global_registry.get(ENV_CREATOR, ENV_ID)


def test_gymnasium_makes_it_by_name_however_often_it_is_registered(dataset, engine):
    assert ENV_ID == "iquitos_rl/EVCharging-v0"
    register()
    register()
    schema = dataset.schema_path("train")
    env = gymnasium.make(ENV_ID, schema=schema, engine=engine, episode_steps=24, mask_idle=False)
    assert isinstance(env.unwrapped, EVChargingEnv)
    assert not env.unwrapped.mask_idle
    assert hasattr(env.unwrapped, "site" if engine == "citylearn" else "engine")
    observation, _ = env.reset(seed=1)
    observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert observation in env.observation_space
    assert isinstance(reward, float)
    assert (terminated, truncated) == (False, False)


@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
def test_gymnasium_makes_many_by_the_same_name(dataset, mode):
    register()
    schema = dataset.schema_path("train")
    vector = gymnasium.make_vec(ENV_ID, num_envs=3, vectorization_mode=mode, schema=schema, episode_steps=24)
    assert isinstance(vector.unwrapped, BatchVectorEnv if mode == "vector_entry_point" else SyncVectorEnv)
    assert vector.num_envs == 3
    assert vector.spec is not None
    assert vector.spec.id == ENV_ID
    observations, _ = vector.reset(seed=0)
    assert observations in vector.observation_space
    observations, rewards, *_ = vector.step(vector.action_space.sample())
    assert observations in vector.observation_space
    assert rewards.shape == (3,)
    vector.close()


def test_without_further_words_it_is_the_batch_engine(dataset):
    schema = dataset.schema_path("train")
    assert hasattr(make_env(schema, episode_steps=24), "engine")
    assert isinstance(make_vector_env(schema, 2, episode_steps=24), BatchVectorEnv)


def test_ray_makes_it_by_the_same_name_from_an_env_config(dataset, create, engine):
    from ray.rllib.env.env_context import EnvContext

    reference = dataset.no_control("train").reference().to_json()
    config = {
        "schema": str(dataset.schema_path("train")),
        "engine": engine,
        "episode_steps": 24,
        "reference": reference,
    }
    env = create(EnvContext(config, worker_index=1, num_workers=1))
    assert isinstance(env, EVChargingEnv)
    assert env.episode_steps == 24
    assert env.reference.to_json() == reference


def test_ray_makes_many_at_once_when_it_says_how_many(dataset, create):
    from ray.rllib.env.env_context import EnvContext

    config = EnvContext({"schema": str(dataset.schema_path("train")), "episode_steps": 24}, worker_index=1)
    vector = create(config | {"num_envs": 3})
    assert isinstance(vector, BatchVectorEnv)
    assert vector.num_envs == 3
    assert vector.episode_steps == 24
    assert config == {"schema": str(dataset.schema_path("train")), "episode_steps": 24}


def test_an_unknown_engine_is_refused_before_the_schema_is_looked_for():
    with pytest.raises(ValueError, match="engine 'warp': expected 'batch' or 'citylearn'"):
        make_env("nowhere.json", engine="warp")  # type: ignore[arg-type]


def test_a_vector_environment_steps_its_members_and_resets_them_at_their_ends(dataset, engine):
    schema = dataset.schema_path("train")
    vector = make_vector_env(schema, 2, engine=engine, episode_steps=4, random_start="day")
    single = make_env(schema, engine, episode_steps=4, random_start="day")
    assert vector.num_envs == 2
    assert vector.single_observation_space == single.observation_space
    observations, infos = vector.reset(seed=[7, 8])  # type: ignore[arg-type]
    assert observations.shape == (2, single.layout.size)
    assert np.array_equal(observations[1], single.reset(seed=8)[0])
    for step, action in enumerate(random_actions(single, 4)):
        observations, rewards, terminated, truncated, infos = vector.step(np.stack([action, action]))
        alone = single.step(action)
        assert np.array_equal(observations[1], alone[0])
        assert rewards[1] == pytest.approx(alone[1])
        assert not terminated.any()
        assert truncated.tolist() == [step == 3] * 2
    observations, rewards, _, truncated, infos = vector.step(np.stack([action, action]))  # the reset
    assert rewards.tolist() == [0, 0]
    assert not truncated.any()
    assert np.array_equal(observations[1], single.reset()[0])
    assert infos["start_step"].shape == (2,)
    vector.close()


@pytest.mark.parametrize("count", [0, -1])
def test_a_vector_environment_needs_a_member(count):
    with pytest.raises(ValueError, match="expected at least 1"):
        make_vector_env("nowhere.json", count)


def test_samplers_next_to_each_other_do_not_choose_the_same_windows(dataset, create, engine):
    from ray.rllib.env.env_context import EnvContext

    config = {"schema": str(dataset.schema_path("train")), "episode_steps": 24, "random_start": "day"}
    config |= {"engine": engine}

    def starts(runner: int, place: int) -> list[int]:
        """Windows of one environment, seeded as RLlib does it: run's seed + runner + place in the runner."""
        env = create(EnvContext(config, worker_index=runner, num_workers=2))
        return [
            env.reset(seed=5 + runner + place if first else None)[1]["start_step"]
            for first in (True, False, False, False)
        ]

    first, second = starts(1, 1), starts(2, 0)  # both are seeded with 7
    assert first != second
    assert first == starts(1, 1)
