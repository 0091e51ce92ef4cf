"""`--set key.key=value` reaches any key of a configuration, with values read as YAML."""

import pytest

from iquitos_rl.config import ConfigError, load_reward, load_run, load_site
from tests.config.conftest import CONFIGS


def get(model, dotted):
    for part in dotted.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("feeder_limit_kw=80", 80.0),
        ("pv.tilt_deg=12.5", 12.5),
        ("pv.clear_sky_index.monthly_mean.11=0.4", 0.4),
        ("sockets.0.count=3", 3),
        ("sockets.1.battery_capacity_kwh.0=5", 5.0),
        ("sessions.arrivals.1.hours=[18, 21]", (18, 21)),
        ("opening_hours=[8,23]", (8, 23)),
        ("bess=null", None),
        ("bess.power_efficiency_curve=[[0, 0.8], [1, 0.9]]", ((0.0, 0.8), (1.0, 0.9))),
        ("load.noise_std=1e-4", 1e-4),
        ("name=another", "another"),
        (" years.train =2", 2),
        ("description=a = b", "a = b"),
    ],
)
def test_any_key_of_a_site_can_be_set(station_file, assignment, expected):
    dotted = assignment.partition("=")[0].strip()
    value = get(load_site(station_file, [assignment]), dotted)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("algorithms.ppo.learning_rate=3e-4", 3e-4),
        ("algorithms.ppo.target_kl=null", None),
        ("algorithms.a2c.hidden=[64, 64, 64]", (64, 64, 64)),
        ("algorithms.sac.target_entropy=-12.5", -12.5),
        ("algorithms.a2c=null", None),
        ("stop.env_steps=7", 7),
        ("resources.cpus_per_trial=0.5", 0.5),
        ("resources.cpus_per_trial=auto", "auto"),
        ("dataset.path=/data/x", "/data/x"),
        ("environment.random_start=hour", "hour"),
        ("site.pv.tilt_deg=5", 5.0),
        ("demonstration=false", False),
    ],
)
def test_any_key_of_a_run_can_be_set(quick_file, assignment, expected):
    assert get(load_run(quick_file, [assignment]), assignment.partition("=")[0]) == expected


def test_a_section_that_the_file_leaves_out_is_made(quick_file):
    assert "resources" not in quick_file.read_text()
    assert load_run(quick_file, ["resources.env_runners=2"]).resources.env_runners == 2


def test_a_later_assignment_wins_and_earlier_ones_are_seen(station_file):
    site = load_site(station_file, ["bess={}", "years.train=2", "years.train=3", "bess=null"])
    assert (site.years.train, site.bess) == (3, None)


def test_weights_that_are_set_together_are_checked_together(station_file):
    reward = station_file.parents[1] / "reward.yaml"
    weights = load_reward(reward, ["co2_weight=0.4", "cost_weight=0.25"])
    assert weights.as_tuple() == (0.4, 0.2, 0.25, 0.1, 0.05)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("pv.tilt_deg", "expected key.key=value"),
        ("=4", "expected key.key=value"),
        ("pv..tilt_deg=4", "expected key.key=value"),
        ("pv.tilt_deg=[1", "'[1' is not a YAML value"),
        ("pv.tilt_deg={a: 1, a: 2}", "is not a YAML value"),
        ("pv.tilt_deg=!!bool maybe", "is not a YAML value"),
        ("pv.tilt_deg=!!set {a}", "is not a YAML value"),
        ("pv.tilt_deg=&a [*a]", "is not a YAML value"),
        ("pv.tilt_deg=!!python/object:os.system {}", "is not a YAML value"),
        pytest.param("pv.tilt_deg=" + "[" * 1500, "is not a YAML value", id="deep"),
        ("name.x=4", "name is a text and has no keys"),
        ("pv.tilt_deg.x=4", "pv.tilt_deg is the value 10 and has no keys"),
        ("sockets.2.count=1", "'2': expected a number from 0 to 1"),
        ("sockets.-1.count=1", "'-1': expected a number from 0 to 1"),
        ("sockets.moto.count=1", "'moto': expected a number from 0 to 1"),
    ],
)
def test_an_assignment_that_leads_nowhere_is_refused_in_one_line(station_file, assignment, said):
    with pytest.raises(ConfigError) as caught:
        load_site(station_file, [assignment])
    message = str(caught.value)
    assert message.startswith(f"--set {assignment}: ")
    assert said in message
    assert "\n" not in message


def test_a_mistake_over_several_keys_names_the_command_line_that_made_it():
    with pytest.raises(
        ConfigError, match=r"^--set and .*train_report\.yaml: environment\.years \(50\) must not"
    ):
        load_run(CONFIGS / "runs/train_all.yaml", ["environment.years=50"])
