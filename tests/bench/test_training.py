"""The training benchmark: every contender trains on the same site, and the ratios are those of the rates."""

from __future__ import annotations

import json
from statistics import median

import pytest

from iquitos_rl.bench import training
from iquitos_rl.bench.contenders import bare_loop_path, load_bare_loop
from iquitos_rl.bench.training import BARS, OURS, _take_turns, bench_training
from iquitos_rl.bench.training_table import training_tables
from iquitos_rl.bench.workload import Workload
from iquitos_rl.cli import main
from iquitos_rl.config import A2CSettings
from tests.evaluation.test_compare import rendered
from tests.training.small_run import RLLIB_WARNING, make_run, small_ray, write_run

__all__ = ["small_ray"]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.usefixtures("small_ray"),
    pytest.mark.filterwarnings(RLLIB_WARNING),
]

SMALL = Workload(
    num_envs=4,
    rollout_steps=64,
    minibatch_size=32,
    epochs=2,
    hidden=(8, 8),
    batch_size=8,
    warmup_steps=40,
    buffer_size=500,
    citylearn_steps=16,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, small_ray):
    run = make_run(tmp_path_factory.mktemp("run"))
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "TURNS", {"ppo": 2, "a2c": 1, "sac": 2})
        result = bench_training(
            run,
            workload=SMALL,
            repeats=2,
            with_sb3=True,
            minibatch_sizes=(16, 32),
            env_runners=(0, 1),
            say=said.append,
        )
    return result, said


def rate_of(result, algorithm, contender, **sizes):
    sizes = {"minibatch_size": SMALL.samples_per_update(algorithm), "env_runners": 0} | sizes
    (found,) = [
        rate
        for rate in result.rates
        if (rate.algorithm, rate.contender) == (algorithm, contender)
        and all(getattr(rate, name) == value for name, value in sizes.items())
    ]
    return found


def test_all_contenders_of_all_algorithms_are_measured(measured):
    result, said = measured
    assert result.site == "small_site"
    assert result.sockets == 4
    assert result.remarks == ()
    trainers = {"ours", "RLlib", "bare loop", "SB3 on CityLearn"}
    for algorithm in ("ppo", "a2c", "sac"):
        for contender in trainers:
            rate = rate_of(result, algorithm, contender)
            assert len(rate.per_s_repeats) == 2
            assert rate.per_s == median(rate.per_s_repeats)
            assert rate.unit == ("updates" if algorithm == "sac" else "env_steps")
            # Two measurements: the median of their sums is the sum of their medians.
            spent_ms = rate.sampling_ms + rate.learning_ms
            assert spent_ms == pytest.approx(median(1000 / each for each in rate.per_s_repeats))
            assert 0 < rate.cpu_ms < 2 * spent_ms  # one thread, and Ray's own beside it
            assert rate.sampling_ms > 0
            assert rate.learning_ms > 0
    assert rate_of(result, "ppo", "env alone").learning_ms == 0
    # CityLearn itself is what is slow there.
    assert rate_of(result, "ppo", OURS).per_s > rate_of(result, "ppo", "SB3 on CityLearn").per_s
    assert "ppo, minibatch 32: measurement 2 of 2" in said


def test_ppo_is_measured_by_minibatch_and_by_env_runners(measured):
    result, _ = measured
    for contender in ("ours", "RLlib", "bare loop"):
        assert rate_of(result, "ppo", contender, minibatch_size=16).per_s > 0
    for contender in ("ours", "RLlib"):
        assert rate_of(result, "ppo", contender, env_runners=1).per_s > 0
    # What is measured already is not measured twice.
    assert len([rate for rate in result.rates if rate.contender == OURS]) == 5


def test_ratios_are_what_the_rates_say(measured):
    result, _ = measured
    names = {f"{name}.vs_{of}" for name in ("ppo", "a2c", "sac") for of in ("bare", "rllib", "sb3_citylearn")}
    assert result.ratios.keys() == names | {"ppo.env_share"}
    assert BARS.keys() == result.ratios.keys() - {"sac.vs_sb3_citylearn"}
    contenders = {"vs_bare": "bare loop", "vs_rllib": "RLlib", "vs_sb3_citylearn": "SB3 on CityLearn"}
    contenders["env_share"] = "env alone"
    for name, ratio in result.ratios.items():
        algorithm, _, of = name.partition(".")
        ours = rate_of(result, algorithm, OURS).per_s_repeats
        reference = rate_of(result, algorithm, contenders[of]).per_s_repeats
        assert ratio == pytest.approx(median(a / b for a, b in zip(ours, reference, strict=True)))
        ours = rate_of(result, algorithm, OURS).cpu_ms_repeats
        reference = rate_of(result, algorithm, contenders[of]).cpu_ms_repeats
        expected = median(b / a for a, b in zip(ours, reference, strict=True))
        assert result.cpu_ratios[name] == pytest.approx(expected)


def test_json_has_the_ratios_by_name_and_their_bars(measured):
    result, _ = measured
    plain = json.loads(json.dumps(result.to_json()))
    for name, ratio in result.ratios.items():
        assert plain[name] == ratio
    assert plain["bars"].keys() == BARS.keys()
    for name, bar in plain["bars"].items():
        share = name == "ppo.env_share"
        assert bar == {"bar": BARS[name], "met": plain[name] <= 0.05 if share else plain[name] >= BARS[name]}
    assert plain["cpu_ratios"] == result.cpu_ratios
    assert plain["workload"]["num_envs"] == 4
    assert len(plain["rates"]) == len(result.rates)


def test_the_table_shows_rates_ratios_and_bars(measured):
    result, _ = measured
    text = "\n".join(line for table in training_tables(result) for line in rendered(table))
    assert max(map(len, text.splitlines())) <= 78
    for words in (
        "small_site, 4 sockets",
        "bare loop",
        "SB3 on CityLearn",
        "rollouts of 16",
        "no remote runners",
        "sac.vs_rllib",
        ">= 3.5",
        "<= 5%",
    ):
        assert words in text
    met = [name for name in BARS if result.meets(name)]
    assert text.count(" not met") == len(BARS) - len(met)
    assert text.count(" met") == len(BARS)


def test_a2c_takes_whole_rollouts_and_is_counted_as_one_update_each(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    # A size would leave a small second update to a rollout that is some steps longer.
    settings = SMALL.settings(run, "a2c")
    assert isinstance(settings, A2CSettings)
    assert settings.minibatch_size is None
    turned = []

    def recorded(contenders, turns):
        turned.append(_take_turns(contenders, turns))
        return turned[-1]

    monkeypatch.setattr(training, "_take_turns", recorded)
    monkeypatch.setattr(training, "TURNS", {"a2c": 2})
    bench_training(run, algorithms=["a2c"], workload=SMALL, repeats=1)
    (measurement,) = turned
    assert measurement.keys() == {OURS, "RLlib", "bare loop"}
    for turns in measurement.values():
        assert [turn.updates for turn in turns] == [1, 1]


def test_a_missing_bare_loop_is_said_and_left_out(tmp_path):
    assert load_bare_loop(bare_loop_path()) is not None
    result = bench_training(
        make_run(tmp_path),
        algorithms=["a2c"],
        workload=SMALL,
        repeats=1,
        bare_loop=tmp_path / "bare_loop.py",
    )
    (remark,) = result.remarks
    assert remark.startswith("no bare loop: ")
    assert result.ratios.keys() == {"a2c.vs_rllib"}
    assert remark.split()[-1] in "\n".join(rendered(training_tables(result)[0]))


def test_stable_baselines3_that_is_not_installed_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[dev\]'"):
        bench_training(make_run(tmp_path), workload=SMALL, with_sb3=True)


def test_the_command_prints_one_json_document(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(f"bench train --run {write_run(tmp_path)} --algo a2c --repeats 1 --no-sweeps --json".split())
    captured = capsys.readouterr()
    assert exit_.value.code in (0, None)
    plain = json.loads(captured.out)
    assert {"a2c.vs_bare", "a2c.vs_rllib"} <= plain.keys()
    assert plain["workload"]["hidden"] == [256, 256]
    assert "a2c, whole rollouts: measurement 1 of 1" in captured.err
