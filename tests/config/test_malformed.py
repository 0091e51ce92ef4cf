"""Each mistake gives exactly one line: the file (or --set), the key, the value, what is allowed."""

from pathlib import Path

import pytest
import yaml

from iquitos_rl.config import ConfigError, load_reward, load_run, load_site

CONFIGS = Path(__file__).parents[2] / "ray_configs"
STATION = CONFIGS / "sites" / "iquitos_station.yaml"
QUICK = CONFIGS / "runs" / "quick.yaml"
REWARD = CONFIGS / "reward.yaml"


def the_line(load, *arguments):
    """The one line of a refusal."""
    with pytest.raises(ConfigError) as caught:
        load(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


del_ = object()


def put(data, dotted, value):
    """Change one value of nested mappings and lists; `del` takes it out."""
    *path, last = (int(part) if part.isdigit() else part for part in dotted.split("."))
    for part in path:
        data = data[part]
    if value is del_:
        del data[last]
    else:
        data[last] = value


# key, value, key that is named, what the line says of the value and of what is allowed
SITE = [
    ("feder_limit_kw", 3, "feder_limit_kw", ["3", "unknown key", "did you mean feeder_limit_kw?"]),
    ("pv.tilt", 4, "pv.tilt", ["4", "unknown key", "did you mean tilt_deg?", "azimuth_deg"]),
    ("sockets.1.cuont", 2, "sockets.1.cuont", ["unknown key", "did you mean count?", "power_kw"]),
    ("qqqq", {"a": 1}, "qqqq", ["unknown key; allowed: name, description"]),
    ("location", del_, "location", ["this key is missing"]),
    ("pv.clear_sky_index.daily_std", del_, "pv.clear_sky_index.daily_std", ["this key is missing"]),
    ("sockets.0.power_kw", del_, "sockets.0.power_kw", ["this key is missing"]),
    ("pv.tilt_deg", 100, "pv.tilt_deg", ["100", "less than or equal to 90"]),
    ("pv.tilt_deg", "steep", "pv.tilt_deg", ['"steep"', "must be a valid number"]),
    ("pv.tilt_deg", "10", "pv.tilt_deg", ['"10"', "must be a valid number"]),
    ("pv.tilt_deg", True, "pv.tilt_deg", ["true", "must be a valid number"]),
    ("pv.tilt_deg", [10], "pv.tilt_deg", ["[10]", "must be a valid number"]),
    ("pv.tilt_deg", None, "pv.tilt_deg", ["null", "must be a valid number"]),
    ("pv.tilt_deg", float("nan"), "pv.tilt_deg", ["NaN", "must be a finite number"]),
    ("feeder_limit_kw", float("inf"), "feeder_limit_kw", ["Infinity", "must be a finite number"]),
    ("feeder_limit_kw", -1, "feeder_limit_kw", ["-1", "greater than or equal to 0"]),
    ("bess.capacity_kwh", 0, "bess.capacity_kwh", ["0", "greater than 0"]),
    ("bess.round_trip_efficiency", 1.1, "bess.round_trip_efficiency", ["1.1", "less than or equal to 1"]),
    ("bess.initial_soc", 0.1, "bess", ["initial_soc (0.1)", "at least 1 - depth_of_discharge (0.2)"]),
    ("bess.capacity_power_curve", [[1, 1], [0, 1]], "bess.capacity_power_curve", ["[[1, 1]", "exceed"]),
    ("sockets.0.count", 2.5, "sockets.0.count", ["2.5", "must be a valid integer"]),
    ("sockets.0.count", True, "sockets.0.count", ["true", "must be a valid integer"]),
    ("sockets.0.count", "12", "sockets.0.count", ['"12"', "must be a valid integer"]),
    ("sockets.1.name", "moto", "sockets", ["moto, moto", "every class needs a name of its own"]),
    ("sockets", [], "sockets", ["[]", "at least 1 item"]),
    ("sockets", 128, "sockets", ["128", "must be a valid array"]),
    ("sockets.0.battery_capacity_kwh", [4, 3], "sockets.0", ["(4) must not exceed the second (3)"]),
    ("pv", 505, "pv", ["505", "expected keys with values"]),
    ("pv", [505], "pv", ["[505]", "expected keys with values"]),
    ("pv.clear_sky_index.maximum", 0.01, "pv.clear_sky_index", ["minimum (0.05)", "maximum (0.01)"]),
    ("pv.clear_sky_index.monthly_mean.3", "high", "pv.clear_sky_index.monthly_mean.3", ['"high"', "number"]),
    ("pv.clear_sky_index.monthly_mean", [0.5] * 11, "pv.clear_sky_index.monthly_mean", ["at least 12"]),
    ("opening_hours", [22, 9], "opening_hours", ["[22, 9]", "the first hour must come before the second"]),
    ("tariff.peak_hours", [18, 25], "tariff.peak_hours.1", ["25", "less than or equal to 24"]),
    ("tariff.peak_hours", [18, 20, 23], "tariff.peak_hours", ["[18, 20, 23]", "at most 2 items"]),
    ("sessions.arrivals.0.hours", [9, 18], "sessions", ["hour ranges must not overlap", "[17, 21]"]),
    ("sessions.arrivals.0.hours", [8, 17], "sessions.arrivals", ["[8, 17]", "within opening_hours [9, 22]"]),
    (
        "sessions.arrival_soc",
        [0.5, 0.2],
        "sessions",
        ["arrival_soc", "(0.5) must not exceed the second (0.2)"],
    ),
    ("sessions.weekday_factor", [1, 1], "sessions.weekday_factor", ["[1, 1]", "at least 7 items"]),
    ("seconds_per_time_step", 900, "seconds_per_time_step", ["900", "must be 3600"]),
    ("name", "My Site", "name", ['"My Site"', "plain name"]),
    ("years.train", 0, "years.train", ["0", "greater than or equal to 1"]),
]


@pytest.mark.parametrize(("key", "value", "named", "said"), SITE, ids=lambda part: str(part)[:40])
def test_a_mistake_in_a_site_file(write, key, value, named, said):
    data = yaml.safe_load(STATION.read_text())
    put(data, key, value)
    path = write(yaml.safe_dump(data))
    line = the_line(load_site, path)
    location = line.removeprefix(f"{path}: ")
    assert location != line
    assert named in location.partition(" is not allowed")[0]
    for part in said:
        assert part in line


RUN = [
    ("name", "a/b", "name", ['"a/b"', "plain name"]),
    ("seed", -1, "seed", ["-1", "greater than or equal to 0"]),
    ("seed", 1.5, "seed", ["1.5", "must be a valid integer"]),
    ("stop", {"episodes": 3}, "stop", ["env_steps (1008)", "episodes (3)", "exclude each other"]),
    ("environment", {"engine": "warp"}, "environment.engine", ['"warp"', "'citylearn'"]),
    ("evaluation", {"engine": "warp"}, "evaluation.engine", ['"warp"', "'citylearn'"]),
    ("environment", {"observation": "all"}, "environment.observation", ['"all"', "'features' or 'raw'"]),
    ("environment", {"random_start": "week"}, "environment.random_start", ['"week"', "'day' or 'hour'"]),
    ("environment", {"mask_idle": 1}, "environment.mask_idle", ["1", "must be a valid boolean"]),
    ("environment", {"episode_steps": 8760}, "environment.episode_steps", ["8760", "equal to 8759"]),
    ("environment", {"start_day": 364}, "environment", ["364 * 24 + 168", "must not exceed 8759"]),
    ("environment", {"years": 9}, "environment.years", ["(9)", "the site's 5 training years"]),
    ("evaluation", {"window": {"start_day": 364}}, "evaluation.window", ["364 * 24 + 168", "exceed 8759"]),
    ("validation", {"windows": [{"steps": 8760}]}, "validation.windows.0.steps", ["8760", "equal to 8759"]),
    ("evaluation", {"year": 1}, "evaluation.year", ["(1)", "below 1, the site's number of test years"]),
    ("evaluation", {"split": "tset"}, "evaluation.split", ['"tset"', "'train', 'validation' or 'test'"]),
    ("algorithms", {"dqn": {}}, "algorithms.dqn", ["unknown key", "allowed: a2c, sac, ppo"]),
    ("algorithms", "ppo.yaml", "algorithms", ['"ppo.yaml"', "expected keys with values"]),
    ("algorithms", {"a2c": None, "sac": None, "ppo": None}, "algorithms", ["at least one of a2c, sac, ppo"]),
    ("algorithms", {"ppo": {"hidden": [0]}}, "algorithms.ppo.hidden.0", ["0", "greater than or equal to 1"]),
    ("algorithms", {"ppo": "nowhere.yaml"}, "algorithms.ppo", ["'nowhere.yaml'", "there is no file"]),
    ("algorithms", {"ppo": {"learning_rat": 1}}, "ppo.learning_rat", ["did you mean learning_rate?"]),
    (
        "resources",
        {"cpus_per_trial": "all"},
        "resources.cpus_per_trial",
        ['"all"', "number or must be 'auto'"],
    ),
    ("resources", {"cpus": 1}, "resources.cpus", ["1", "unknown key", "cpus_per_trial, gpus_per_trial"]),
    ("reward", "nowhere.yaml", "reward", ["'nowhere.yaml'", "there is no file"]),
    ("reward", {"co2_weight": 0.6}, "", ["must sum to 1, they sum to 1.1"]),
    ("site", ".", "site", ["'.'", "there is no file"]),
    ("site", "a" * 3000, "site", ["there is no file"]),
    ("site", 5, "site", ["5", "expected keys with values"]),
    ("checkpoint", None, "checkpoint", ["null", "expected keys with values"]),
]


@pytest.mark.parametrize(("key", "value", "named", "said"), RUN, ids=lambda part: str(part)[:40])
def test_a_mistake_in_a_run_that_extends_another(write, key, value, named, said):
    path = write(yaml.safe_dump({"extends": str(QUICK), key: value}))
    line = the_line(load_run, path)
    assert line.split(": ")[0].endswith(".yaml")
    for part in [named, *said]:
        assert part in line


@pytest.mark.parametrize(
    "others",
    [f"extends: {QUICK}\n", f"name: a\nsite: {STATION}\nreward: {REWARD}\n"],
    ids=["extends", "whole"],
)
def test_the_file_of_another_algorithm_is_one_mistake(write, others):
    sac = CONFIGS / "algorithms" / "sac.yaml"
    line = the_line(load_run, write(f"{others}algorithms: {{ppo: {sac}}}\n"))
    assert line == f"{sac}: algorithm: \"sac\" is not allowed: must be 'ppo'"


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("co2_weight=-0.1", "--set: co2_weight: -0.1 is not allowed: must be greater than or equal to 0"),
        ("co2_weight=.nan", "--set: co2_weight: NaN is not allowed: must be a finite number"),
        ("co2_weight=yes", "--set: co2_weight: true is not allowed: must be a valid number"),
        ("co2_weight='0.5'", '--set: co2_weight: "0.5" is not allowed: must be a valid number'),
        ("co2_weight=half", '--set: co2_weight: "half" is not allowed: must be a valid number'),
    ],
)
def test_a_value_from_the_command_line_is_said_to_be_from_there(assignment, line):
    assert the_line(load_reward, REWARD, [assignment]) == line


def test_an_unknown_weight_is_named_with_the_likely_one():
    line = the_line(load_reward, REWARD, ["carbon_weight=0.1"])
    assert line.startswith("--set: carbon_weight: 0.1 is not allowed: unknown key; did you mean")
    assert line.endswith("ev_satisfaction_weight, grid_stability_weight")


def test_weights_that_do_not_sum_to_one_are_all_listed(write):
    path = write("co2_weight: 0.6\ncost_weight: 0.25\n")
    line = the_line(load_reward, path)
    assert line == (
        f"{path}: the five weights must sum to 1, they sum to 1.2 (co2_weight 0.6, solar_weight 0.2, "
        "cost_weight 0.25, ev_satisfaction_weight 0.1, grid_stability_weight 0.05)"
    )


FILES = [
    ("", "the file is empty"),
    ("# nothing\n---\n", "the file is empty"),
    ("- a\n- b\n", "expected keys with values, found a list"),
    ("hello\n", "expected keys with values, found a text"),
    ("3\n", "expected keys with values, found the value 3"),
    ("true\n", "expected keys with values, found true/false"),
    ("a: 1\nb: [1, 2\nc: 3\n", "not valid YAML: line 3"),
    ("a:\n\tb: 3\n", "not valid YAML: line 2, column 1"),
    ("name: a\nlocation: {x: 1}\nname: b\n", "not valid YAML: line 3: key 'name' is given twice"),
    ("a: {x: 1, x: 1}\n", "not valid YAML: line 1: key 'x' is given twice"),
    ("a: 1\n2: b\n", "not valid YAML: line 2: key 2 is not text"),
    ("a: 1\n---\nb: 2\n", "not valid YAML: line 2"),
    ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML: line 1"),
    ("a: !!set {x}\n", "not valid YAML: line 1"),
    ("a: !!binary aGVsbG8=\n", "not valid YAML: line 1"),
    ("a: !!timestamp 2024-01-01\n", "not valid YAML: line 1"),
    ("a: !!bool maybe\n", "not valid YAML"),
    ("a: &x [*x]\n", "not valid YAML: line 1"),
    ("a: *x\n", "not valid YAML: line 1"),
    (bytes(range(256)), "not a text file"),
    ("a: 1".encode("utf-16"), "not a text file"),
    (b"PAR1\0\0\0\0", "not valid YAML: unacceptable character"),
    ("a: " + "[" * 1500, "nested too deeply"),
    ("a: 1\n" * 300_000, "1500000 bytes are too many for a configuration file"),
]


@pytest.mark.parametrize("load", [load_site, load_reward, load_run])
@pytest.mark.parametrize(("content", "said"), FILES, ids=lambda part: str(part)[:25])
def test_a_file_that_is_no_configuration_at_all(write, load, content, said):
    path = write(content)
    line = the_line(load, path)
    assert line.startswith(f"{path}: {said}")


@pytest.mark.parametrize("load", [load_site, load_reward, load_run])
def test_files_that_are_not_there_or_are_folders(tmp_path, load):
    assert the_line(load, tmp_path / "nowhere.yaml") == f"{tmp_path}/nowhere.yaml: no such file"
    assert the_line(load, str(tmp_path)) == f"{tmp_path}: is a directory, not a YAML file"


def test_several_mistakes_give_a_line_each(write):
    data = yaml.safe_load(STATION.read_text())
    put(data, "pv.tilt_deg", 91)
    put(data, "sockets.0.count", 0)
    del data["tariff"]
    path = write(yaml.safe_dump(data))
    with pytest.raises(ConfigError) as caught:
        load_site(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", "1.e-4", "0.0001", "+1e-4"])
def test_numbers_in_engineers_notation_are_numbers(write, text):
    data = yaml.safe_load(STATION.read_text())
    put(data, "load.noise_std", "NUMBER")
    path = write(yaml.safe_dump(data).replace("NUMBER", text))
    assert load_site(path).load.noise_std == 1e-4


def test_a_date_is_a_text(write):
    path = (
        write(STATION.read_text() + "\n").read_text().replace("name: iquitos_station", "name: 2024-01-01", 1)
    )
    assert "2024-01-01" in the_line(load_site, write(path))
