"""What happens when an episode ends is what Gymnasium's own vector of single environments does."""

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList

from iquitos_rl.env import BatchVectorEnv, make_env
from iquitos_rl.env.no_control import unit_reference

STEPS, ENVS = 5, 4
OPTIONS: dict[str, Any] = {"episode_steps": STEPS, "random_start": "hour", "reference": unit_reference()}


@pytest.fixture
def both(schemas_of):
    """The batch environments and Gymnasium's vector of single ones, with the infos of each as a list."""

    def make(mode, site="plain", **options):
        schemas, options = schemas_of(site), {**OPTIONS, **options}
        batch = BatchVectorEnv(schemas, ENVS, autoreset_mode=mode, flows=True, **options)
        single = [lambda: make_env(schemas, **options) for _ in range(ENVS)]
        return DictInfoToList(batch), DictInfoToList(SyncVectorEnv(single, autoreset_mode=mode))

    return make


def actions_for(env, count):
    space = env.single_action_space
    shape = (count, ENVS, *space.shape)
    return np.random.default_rng(0).uniform(space.low, space.high, shape).astype(np.float32)


def plain(info):
    """An info with its last observation as a list, so that it can be compared."""
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in info.items()}


def assert_same_step(one, other):
    for part, same in zip(one[:-1], other[:-1], strict=True):
        assert np.array_equal(part, same)
        assert part.dtype == same.dtype
    assert [plain(info) for info in one[-1]] == [plain(info) for info in other[-1]]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("site", ["plain", "shared"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_episodes_follow_one_another_as_in_gymnasiums_vector(both, mode, site, together):
    batch, reference = both(mode, site)
    actions = actions_for(batch, 4 * STEPS)
    assert_same_step(batch.reset(seed=3), reference.reset(seed=3))
    for step, action in enumerate(actions):
        assert_same_step(batch.step(action), reference.step(action))
        if step == 1 and not together:
            # From here on their episodes end at different times.
            mask = np.array([False, True, False, True])
            assert_same_step(
                batch.reset(options={"reset_mask": mask}),
                reference.reset(options={"reset_mask": mask.copy()}),
            )


@pytest.mark.parametrize("site", ["plain", "v2g", "shared", "worn"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_datas_very_end_is_an_end_like_any_other(both, mode, site):
    batch, reference = both(mode, site)
    # The ends of the first and of the last year, and two ends of windows.
    options = {"year": [0, 1, 0, 1], "start_step": [95 - STEPS, 69 - STEPS, 3, 4]}
    batch.reset(seed=1, options=options)
    for i, env in enumerate(reference.env.envs):
        env.reset(seed=1 + i, options={name: values[i] for name, values in options.items()})
    for step, action in enumerate(actions_for(batch, 3 * STEPS)):
        one, other = batch.step(action), reference.step(action)
        assert_same_step(one, other)
        if step == STEPS - 1:
            assert one[2].tolist() == [True, True, False, False]
            assert one[3].tolist() == [False, False, True, True]


@pytest.mark.parametrize("site", ["plain", "worn"])
def test_without_autoreset_the_caller_resets(both, site):
    batch, reference = both(AutoresetMode.DISABLED, site)
    assert_same_step(batch.reset(seed=3), reference.reset(seed=3))
    mask = np.array([True, False, False, True])
    for step, action in enumerate(actions_for(batch, 3 * STEPS)):
        if step == 2:
            assert_same_step(
                batch.reset(options={"reset_mask": mask}),
                reference.reset(options={"reset_mask": mask.copy()}),
            )
        one, other = batch.step(action), reference.step(action)
        assert_same_step(one, other)
        ended = one[2] | one[3]
        if ended.any():
            assert_same_step(
                batch.reset(options={"reset_mask": ended}),
                reference.reset(options={"reset_mask": ended.copy()}),
            )


def test_without_autoreset_a_step_after_the_end_is_refused_until_all_are_reset(both):
    batch, _ = both(AutoresetMode.DISABLED)
    batch.reset(seed=3)
    actions = actions_for(batch, STEPS + 1)
    for action in actions[:STEPS]:
        observation, *_ = batch.step(action)
    for mask in ([True, False, True, True], None):
        with pytest.raises(RuntimeError, match="episodes have ended in environments"):
            batch.step(actions[-1])
        assert np.array_equal(batch.env.engine.observe()[1], observation[1])
        batch.reset(options=None if mask is None else {"reset_mask": np.array(mask)})
        observation = batch.env.engine.observe().copy()
    batch.step(actions[-1])


def test_in_the_same_step_the_last_observation_is_beside_the_first_one(both):
    batch, _ = both(AutoresetMode.SAME_STEP)
    longer = make_env(batch.env.schemas, **{**OPTIONS, "episode_steps": 2 * STEPS})
    start = {"year": 0, "start_step": 20}
    batch.reset(seed=3, options=start)
    longer.reset(options=start)
    for action in actions_for(batch, STEPS):
        observation, reward, _, truncated, infos = batch.step(action)
        expected, expected_reward, *_, info = longer.step(action[2])
    assert truncated.all()
    assert reward[2] == expected_reward
    assert np.array_equal(infos[2]["final_obs"], expected)
    assert infos[2]["final_info"] == info
    longer.reset(options={name: infos[2][name] for name in start})
    assert not np.array_equal(observation[2], expected)
    assert infos[2]["bess_stored_kwh"] == pytest.approx(batch.env.engine.bess_stored_kwh[2])


def test_in_the_next_step_the_action_is_ignored_and_the_reward_is_nothing(both):
    batch, _ = both(AutoresetMode.NEXT_STEP)
    actions = actions_for(batch, STEPS + 1)
    firsts = []
    for last in (actions[-1], -actions[-1]):
        batch.reset(seed=3)
        for action in actions[:STEPS]:
            _, _, _, truncated, _ = batch.step(action)
        assert truncated.all()
        observation, reward, terminated, truncated, infos = batch.step(last)
        assert reward.tolist() == [0] * ENVS
        assert not (terminated | truncated).any()
        assert set(infos[0]) == {"year", "start_step", "bess_stored_kwh"}
        firsts.append(observation)
    assert np.array_equal(*firsts)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_without_flows_infos_say_only_what_begins_and_ends(schemas_of, mode):
    vector = BatchVectorEnv(schemas_of("plain"), ENVS, autoreset_mode=mode, **OPTIONS)
    vector.reset(seed=0)
    for step, action in enumerate(actions_for(vector, STEPS)):
        infos = vector.step(action)[4]
        assert (infos == {}) == (step < STEPS - 1 or mode is not AutoresetMode.SAME_STEP)
    if mode is AutoresetMode.SAME_STEP:
        assert {"final_obs", "_final_obs", "year", "start_step"} <= set(infos)
        assert infos["_final_obs"].all()
