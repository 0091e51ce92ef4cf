"""Whatever a YAML file or an assignment holds, it is a configuration or a ConfigError."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iquitos_rl.config import ConfigError, load_reward, load_run, load_site

CONFIGS = Path(__file__).parents[2] / "ray_configs"
STATION = yaml.safe_load((CONFIGS / "sites" / "iquitos_station.yaml").read_text())
PPO = yaml.safe_load((CONFIGS / "algorithms" / "ppo.yaml").read_text())
REWARD = yaml.safe_load((CONFIGS / "reward.yaml").read_text())
RUN = {
    "name": "fuzz",
    "site": STATION,
    "reward": REWARD,
    "algorithms": {"ppo": PPO},
    "stop": {"env_steps": 3},
}

# Keys that exist, so that the search gets past the first level.
KNOWN = sorted(
    {*STATION, *STATION["pv"], *STATION["bess"], *REWARD, *RUN, "extends", "window", "ppo", "algorithm"}
)
keys = st.sampled_from(KNOWN) | st.text(max_size=6)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["auto", "..", "written.yaml", "1e-4", "\0", "2024-01-01"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
FAST = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def paths_in(node, path=()):
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from paths_in(value, (*path, key))


def changed(data, path, value):
    data = copy.deepcopy(data)
    node = data
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return data


def only_config_errors(load, *arguments):
    try:
        load(*arguments)
    except ConfigError as error:
        message = str(error)
    else:
        return
    assert message.strip()


def dump(data):
    return yaml.safe_dump(data, allow_unicode=True)


@FAST
@given(data=values)
def test_any_structure_as_a_file(write, data):
    path = write(dump(data).encode("utf-8", "surrogatepass"))
    for load in (load_site, load_reward, load_run):
        only_config_errors(load, path)


@FAST
@given(content=st.binary(max_size=60) | st.text(alphabet="ab:[]{}-!&*?|>'\"#%@,. \n\t<1e", max_size=60))
def test_any_bytes_as_a_file(write, content):
    path = write(content)
    for load in (load_site, load_reward, load_run):
        only_config_errors(load, path)


@FAST
@given(place=st.sampled_from([path for path in paths_in(RUN) if path]), value=values)
def test_any_value_anywhere_in_a_good_run(write, place, value):
    only_config_errors(load_run, write(dump(changed(RUN, place, value))))


@FAST
@given(place=st.sampled_from([path for path in paths_in(STATION) if path]), value=values)
def test_any_value_anywhere_in_a_good_site(write, place, value):
    only_config_errors(load_site, write(dump(changed(STATION, place, value))))


@FAST
@given(
    key=st.lists(keys | st.sampled_from(["0", "9", "-1"]), min_size=1, max_size=4), text=st.text(max_size=12)
)
def test_any_assignment(key, text):
    only_config_errors(load_site, CONFIGS / "sites" / "iquitos_station.yaml", [f"{'.'.join(key)}={text}"])


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5).filter(sum))
def test_weights_load_if_and_only_if_they_sum_to_one(weights):
    names = list(REWARD)
    given_ = dict(zip(names, weights, strict=True))
    path = CONFIGS / "reward.yaml"
    assignments = [f"{name}={value!r}" for name, value in given_.items()]
    if abs(sum(weights) - 1) > 1e-6:
        with pytest.raises(ConfigError, match="must sum to 1"):
            load_reward(path, assignments)
    else:
        assert load_reward(path, assignments).as_tuple() == tuple(weights)


@given(st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_normalised_weights_always_load(weights):
    shares = [value / sum(weights) for value in weights]
    assignments = [f"{name}={value!r}" for name, value in zip(REWARD, shares, strict=True)]
    assert load_reward(CONFIGS / "reward.yaml", assignments).as_tuple() == tuple(shares)
