"""Many environments at once are the single environments that they stand for, whatever is asked of them."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList

from iquitos_rl.env import BatchVectorEnv, make_env, make_vector_env
from iquitos_rl.env.no_control import unit_reference
from tests.env.batch.conftest import SITES

UNIT = unit_reference()
STEPS = 7
OPTIONS: dict[str, Any] = {"episode_steps": STEPS, "random_start": "hour", "reference": UNIT}


@pytest.fixture
def vector_of(schemas_of):
    """Makes a vector environment of the plain site, or of another one."""

    def make(num_envs=3, site="plain", **options):
        return BatchVectorEnv(schemas_of(site), num_envs, **{**OPTIONS, **options})

    return make


def actions_for(env, count, seed=0):
    """Random actions for all environments, shape (count, environments, actions)."""
    space = env.single_action_space
    shape = (count, env.num_envs, *space.shape)
    return np.random.default_rng(seed).uniform(space.low, space.high, shape).astype(np.float32)


def trajectory(env, actions, seed):
    """Observations, rewards, flags and windows from a reset on, of all environments."""
    observation, infos = env.reset(seed=seed)
    rows: list[tuple[Any, ...]] = [(observation, infos["start_step"], infos["year"])]
    for action in actions:
        observation, reward, terminated, truncated, infos = env.step(action)
        rows.append((observation, reward, terminated, truncated))
        if "start_step" in infos:
            rows.append((infos["_start_step"], infos["start_step"], infos["year"]))
    return rows


def column(rows, environment):
    """One environment's part of a trajectory."""
    return [[np.asarray(part)[environment].tolist() for part in row] for row in rows]


def single_trajectory(env, actions, seed):
    """The same of a single environment, which is reset when its episode has ended."""
    observation, info = env.reset(seed=seed)
    rows = [[observation.tolist(), info["start_step"], info["year"]]]
    ended = False
    for action in actions:
        if ended:
            observation, info = env.reset()
            rows.append([observation.tolist(), 0.0, False, False])
            rows.append([True, info["start_step"], info["year"]])
            ended = False
            continue
        observation, reward, terminated, truncated, _ = env.step(action)
        rows.append([observation.tolist(), reward, terminated, truncated])
        ended = terminated or truncated
    return rows


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("mask_idle", [True, False])
def test_environment_i_is_the_single_environment_with_seed_plus_i(vector_of, schemas_of, site, mask_idle):
    vector = vector_of(5, site, mask_idle=mask_idle)
    actions = actions_for(vector, 4 * STEPS)
    rows = trajectory(vector, actions, seed=40)
    single = make_env(schemas_of(site), mask_idle=mask_idle, **OPTIONS)
    for i in range(5):
        assert column(rows, i) == single_trajectory(single, actions[:, i], seed=40 + i)
    assert len({tuple(column(rows, i)[0][1:]) for i in range(5)}) > 1


@pytest.mark.parametrize("site", ["plain", "v2g"])
def test_with_citylearns_own_observation_too(vector_of, schemas_of, site):
    # The years must show the same, which generated ones do not.
    options = {"observation": "raw"}
    vector = BatchVectorEnv(schemas_of(site)[0], 4, **{**OPTIONS, **options})
    actions = actions_for(vector, 3 * STEPS)
    rows = trajectory(vector, actions, seed=40)
    single = make_env(schemas_of(site)[0], **{**OPTIONS, **options})
    assert vector.observation_layout == single.observation_layout
    for i in range(4):
        assert column(rows, i) == single_trajectory(single, actions[:, i], seed=40 + i)


@pytest.mark.parametrize("number", [1, 2, 6, 33])
def test_how_many_there_are_changes_none_of_them(vector_of, number):
    many, one = vector_of(number), vector_of(1)
    actions = actions_for(many, 2 * STEPS)
    rows = trajectory(many, actions, seed=5)
    for i in range(0, number, 8):
        assert column(rows, i) == column(trajectory(one, actions[:, [i]], seed=5 + i), 0)


def test_seeds_can_be_given_one_by_one(vector_of):
    vector = vector_of(3)
    actions = actions_for(vector, STEPS)
    by_one = trajectory(vector, actions, seed=[9, 2, 9])
    assert column(trajectory(vector, actions, seed=9), 0) == column(by_one, 0)
    assert column(trajectory(vector, actions, seed=1), 1) == column(by_one, 1)
    assert column(by_one, 0)[0] == column(by_one, 2)[0]
    with pytest.raises(ValueError, match="2 seeds for 3 environments"):
        vector.reset(seed=[1, 2])


def windows(vector, seeds):
    infos = [vector.reset(seed=seed)[1] for seed in seeds]
    return [(info["year"].tolist(), info["start_step"].tolist()) for info in infos]


def test_without_a_seed_the_generators_go_on(vector_of):
    vector = vector_of(3)
    assert windows(vector, [4, None, None]) == windows(vector, [4, None, None])
    assert len({str(window) for window in windows(vector, [4, None, None])}) == 3
    vector.reset(seed=[4, None, None])  # those without one go on with what they have
    assert windows(vector, [None])[0][1][0] == windows(vector, [4, None])[1][1][0]
    vector_of(2).reset()  # never seeded


def test_streams_keep_equal_seeds_apart(vector_of, schemas_of):
    vector = vector_of(3, seed_stream=7)
    apart = windows(vector, [4])
    assert apart != windows(vector_of(3), [4])
    vector.seed_stream = 0  # as the training sets it, once it knows its runner
    assert windows(vector, [4]) == windows(vector_of(3), [4])
    single = make_env(schemas_of("plain"), seed_stream=7, **OPTIONS)
    info = single.reset(seed=6)[1]
    assert (info["year"], info["start_step"]) == (apart[0][0][2], apart[0][1][2])


def test_windows_end_truncated_and_the_data_terminated(vector_of):
    vector = vector_of(3)
    last = 95 - STEPS
    vector.reset(options={"year": [0, 0, 1], "start_step": [last - 1, last, 69 - STEPS]})
    for step, action in enumerate(actions_for(vector, STEPS)):
        observation, _, terminated, truncated, _ = vector.step(action)
        at_end = step == STEPS - 1
        assert terminated.tolist() == [False, at_end, at_end]
        assert truncated.tolist() == [at_end, False, False]
        assert observation in vector.observation_space


def test_an_episode_without_a_length_goes_to_the_end_of_the_shortest_year(vector_of):
    vector = vector_of(1, episode_steps=None, random_start=None, start_step=60)
    assert vector.episode_steps == 9
    vector.reset(options={"year": 1})
    ends = [vector.step(action)[2:4] for action in actions_for(vector, 9)]
    assert [bool(terminated[0]) for terminated, _ in ends] == [False] * 8 + [True]
    assert not any(truncated[0] for _, truncated in ends)


def test_options_are_for_all_or_for_each(vector_of):
    vector = vector_of(3)
    infos = vector.reset(seed=0, options={"year": 1, "start_step": 12})[1]
    assert infos["year"].tolist() == [1, 1, 1]
    assert infos["start_step"].tolist() == [12, 12, 12]
    infos = vector.reset(options={"start_step": np.array([1, 2, 3])})[1]
    assert infos["start_step"].tolist() == [1, 2, 3]
    assert infos["bess_stored_kwh"] == pytest.approx(vector.engine.bess_stored_kwh)


def test_a_mask_resets_those_it_names_and_leaves_the_others_as_they_are(vector_of):
    vector, twin = vector_of(3, flows=True), vector_of(3, flows=True)
    actions = actions_for(vector, STEPS)
    for env in (vector, twin):
        env.reset(seed=2)
    for action in actions[:3]:
        vector.step(action), twin.step(action)
    before = vector.engine.observe().copy()
    mask = np.array([False, True, False])
    observation, infos = vector.reset(
        seed=[1, 80, 3], options={"reset_mask": mask, "start_step": 30, "year": 1}
    )
    assert infos["_start_step"].tolist() == mask.tolist()
    assert (infos["start_step"][1], infos["year"][1]) == (30, 1)
    assert np.array_equal(observation[[0, 2]], before[[0, 2]])
    assert not np.array_equal(observation[1], before[1])
    for action in actions[3:]:
        one, other = vector.step(action), twin.step(action)
        for part, same in zip(one[:4], other[:4], strict=True):
            assert np.array_equal(part[[0, 2]], same[[0, 2]])
        assert one[4]["hour_of_year"][1] != other[4]["hour_of_year"][1]
    assert one[3].tolist() == [True, False, True]
    # The generators of those that were not named are where they were, whatever seeds came along.
    after, expected = windows(vector, [None])[0], windows(twin, [None])[0]
    assert [part[0] for part in after] == [part[0] for part in expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"year": 2}, "year 2: there are 2"),
        ({"year": [0, 1, -1]}, "year -1"),
        ({"start_step": [0, 0, 200]}, "start_step 200 leaves no room"),
        ({"start_step": [0, 0]}, "expected one number, or 3"),
        ({"reset_mask": np.zeros(3, bool)}, "reset_mask: expected 3 flags, at least one of them set"),
        ({"reset_mask": np.ones(2, bool)}, "reset_mask: expected 3 flags"),
        ({"reset_mask": np.array([0, 1, 0])}, "reset_mask: expected 3 flags"),
    ],
)
def test_reset_options_that_do_not_fit_are_refused_and_nothing_is_reset(vector_of, options, said):
    vector, twin = vector_of(3), vector_of(3)
    actions = actions_for(vector, 3)
    for env in (vector, twin):
        env.reset(seed=2)
        env.step(actions[0])
    with pytest.raises(ValueError, match=said):
        vector.reset(options=options)
    for action in actions[1:]:
        for part, same in zip(vector.step(action)[:4], twin.step(action)[:4], strict=True):
            assert np.array_equal(part, same)


@pytest.mark.parametrize("scale", [1.0, 7.0, 1e6, 3e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_beyond_the_bounds_are_the_bounds(vector_of, scale, dtype):
    vector, twin = vector_of(3), vector_of(3)
    bound = np.random.default_rng(1).choice([-1.0, 1.0], (STEPS, *vector.action_space.shape))
    for env in (vector, twin):
        env.reset(seed=2)
    for action in bound:
        allowed = np.clip(action, vector.action_space.low, vector.action_space.high).astype(np.float32)
        far = (action * scale).astype(dtype)
        for part, same in zip(vector.step(far)[:2], twin.step(allowed)[:2], strict=True):
            assert np.array_equal(part, same)
        assert np.array_equal(far, (action * scale).astype(dtype))  # the caller's array is left as it was


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda a: a[0], r"actions of shape \(4,\), expected \(3, 4\)"),
        (lambda a: a[:, :3], r"expected \(3, 4\)"),
        (lambda a: a[None], r"expected \(3, 4\)"),
        (lambda a: np.where([[0, 1, 0, 0]], np.nan, a), "not finite"),
        (lambda a: np.where([[0, 0, 0, 1]], np.inf, a), "not finite"),
        (lambda a: np.where([[1, 0, 0, 0]], -np.inf, a), "not finite"),
        (lambda a: a + np.array([[np.inf], [-np.inf], [0.0]]), "not finite"),
    ],
)
def test_an_action_that_is_refused_changes_nothing(vector_of, spoil, said):
    vector, twin = vector_of(3), vector_of(3)
    actions = actions_for(vector, 4)
    for env in (vector, twin):
        env.reset(seed=2)
        env.step(actions[0])
    with pytest.raises(ValueError, match=said):
        vector.step(spoil(actions[1]))
    for action in actions[1:]:
        for part, same in zip(vector.step(action)[:4], twin.step(action)[:4], strict=True):
            assert np.array_equal(part, same)


def test_without_copies_the_next_step_overwrites_what_was_returned(vector_of):
    kept, shared = vector_of(3), vector_of(3, copy=False)
    actions = actions_for(kept, 2)
    first, same = kept.reset(seed=1)[0], shared.reset(seed=1)[0]
    for action in actions:
        before = first.copy()
        second, also = kept.step(action)[0], shared.step(action)[0]
        assert np.array_equal(first, before)
        assert also is same
        assert np.array_equal(second, also)
        first = second


def test_what_is_returned_belongs_to_the_caller(vector_of):
    vector, twin = vector_of(3, flows=True), vector_of(3, flows=True)

    def spoil(value):
        if isinstance(value, dict):
            for part in value.values():
                spoil(part)
        else:
            value[...] = ~value if value.dtype == bool else 123

    for env in (vector, twin):
        env.reset(seed=2)
    for action in actions_for(vector, 2 * STEPS):
        returned, expected = vector.step(action), twin.step(action)
        for part, same in zip(returned[:4], expected[:4], strict=True):
            assert np.array_equal(part, same)
        for name, values in expected[4].items():
            assert name == "reward_components" or np.array_equal(returned[4][name], values), name
        for part in returned:
            spoil(part)


@pytest.mark.parametrize("site", ["plain", "v2g", "shared"])
def test_spaces_are_those_of_the_single_environment_and_are_kept(vector_of, schemas_of, site):
    vector = vector_of(3, site)
    single = make_env(schemas_of(site), **OPTIONS)
    assert isinstance(vector, VectorEnv)
    assert vector.single_action_space == single.action_space
    assert vector.single_observation_space == single.observation_space
    assert isinstance(vector.action_space, spaces.Box)
    assert vector.action_space.shape == (3, *single.action_space.shape)
    assert vector.observation_space.shape == (3, *single.observation_space.shape)
    for name in ("action_names", "observation_names", "observation_layout", "has_bess", "episode_steps"):
        assert getattr(vector, name) == getattr(single, name)
    observation, infos = vector.reset(seed=0)
    assert infos["year"].dtype == infos["start_step"].dtype == np.int64
    for action in actions_for(vector, 2 * STEPS):
        assert observation.dtype == np.float32
        assert observation in vector.observation_space
        observation, reward, terminated, truncated, _ = vector.step(action)
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
        assert reward.shape == terminated.shape == truncated.shape == (3,)
    vector.close()


def test_gymnasiums_wrapper_hands_each_environment_its_own_infos(vector_of, schemas_of):
    wrapped = DictInfoToList(vector_of(2, flows=True))
    single = make_env(schemas_of("plain"), **OPTIONS)
    infos = wrapped.reset(seed=3)[1]
    assert infos[1] == single.reset(seed=4)[1]
    for action in actions_for(wrapped, STEPS):
        infos = wrapped.step(action)[4]
        assert infos[1] == single.step(action[1])[4]
    assert [set(info) for info in wrapped.step(action)[4]] == [{"year", "start_step", "bess_stored_kwh"}] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_envs": 0}, "num_envs 0: expected at least 1"),
        ({"observation": "all"}, "expected 'features' or 'raw'"),
        ({"random_start": "week"}, "expected 'day', 'hour' or None"),
        ({"episode_steps": 70}, "the data has 69 steps"),
        ({"weights": {"co2_weight": 0.6}}, "sum to 1"),
        (
            {"autoreset_mode": "later"},
            "autoreset_mode 'later': expected one of next_step, same_step, disabled",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(schemas_of, arguments, said):
    with pytest.raises(ValueError, match=said):
        make_vector_env(schemas_of("plain"), **{"num_envs": 2, **OPTIONS, **arguments})


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_autoreset_mode_can_be_named(vector_of, mode):
    for given in (mode, mode.name.lower()):
        vector = vector_of(1, autoreset_mode=given)
        assert vector.autoreset_mode is mode
        assert vector.metadata["autoreset_mode"] is mode
    assert vector_of(1).autoreset_mode is AutoresetMode.NEXT_STEP


@pytest.mark.parametrize(
    ("site", "observation"), [*((site, "features") for site in SITES), ("plain", "raw"), ("v2g", "raw")]
)
@pytest.mark.parametrize("at", [3, STEPS, STEPS + 1])
def test_going_on_from_a_state(vector_of, site, observation, at):
    """In the middle of an episode, at its end, and after the reset: to the bit, in a vector of its own."""
    options = {"site": site, "observation": observation}
    vector, other = vector_of(**options), vector_of(**options)
    actions = actions_for(vector, 3 * STEPS)
    vector.reset(seed=3)
    for action in actions[:at]:
        vector.step(action)
    state = vector.get_state()
    other.reset(seed=9)
    other.step(actions[0])
    other.set_state(state)
    for action in actions[at:]:
        for ours, theirs in zip(vector.step(action)[:4], other.step(action)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_state_is_not_of_another_vector(vector_of):
    vector = vector_of()
    with pytest.raises(RuntimeError, match="reset every environment"):
        vector.get_state()
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"\(3, 3\), these are \(4, 3\)"):
        vector_of(num_envs=4).set_state(vector.get_state())
