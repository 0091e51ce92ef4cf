"""A run that extends another changes what it names and keeps the rest, wherever the files lie."""

import shutil
from pathlib import Path

import pytest
import yaml

from iquitos_rl.config import ConfigError, load_run

CONFIGS = Path(__file__).parents[2] / "ray_configs"


def test_a_changed_key_of_an_algorithm_keeps_the_files_other_keys(write, report_file):
    run = load_run(write(f"extends: {report_file}\nname: mine\nalgorithms: {{ppo: {{epochs: 3}}}}\n"))
    report = load_run(report_file)
    assert run.name == "mine"
    assert report.algorithms.ppo is not None
    assert run.algorithms.ppo == report.algorithms.ppo.model_copy(update={"epochs": 3})
    assert (run.algorithms.a2c, run.algorithms.sac) == (report.algorithms.a2c, report.algorithms.sac)
    assert (run.site, run.reward, run.validation) == (report.site, report.reward, report.validation)


def test_null_leaves_an_algorithm_out(write, report_file):
    run = load_run(write(f"extends: {report_file}\nalgorithms: {{sac: null}}\n"))
    assert run.algorithms.names == ("a2c", "ppo")


def test_extends_goes_through_several_files_and_the_last_one_wins(write, report_file):
    write(f"extends: {report_file}\nname: first\nseed: 1\nstop: {{env_steps: 10}}\n", "first.yaml")
    write("extends: first.yaml\nseed: 2\n", "second.yaml")
    run = load_run(write("extends: second.yaml\nname: third\n", "third.yaml"))
    assert (run.name, run.seed, run.stop.env_steps) == ("third", 2, 10)


def test_lists_are_replaced_and_not_joined(write, report_file):
    run = load_run(write(f"extends: {report_file}\nalgorithms: {{a2c: {{hidden: [32]}}}}\n"))
    assert run.algorithms.a2c is not None
    assert run.algorithms.a2c.hidden == (32,)


def test_file_names_are_relative_to_the_file_that_names_them(tmp_path, monkeypatch):
    shutil.copytree(CONFIGS, tmp_path / "elsewhere" / "configs")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("extends: elsewhere/configs/runs/quick.yaml\nname: mine\n")
    assert load_run("mine.yaml").site == load_run(CONFIGS / "runs" / "quick.yaml").site


def test_a_file_that_is_named_replaces_the_extended_runs_file(write, report_file):
    mall = yaml.safe_load((CONFIGS / "sites" / "iquitos_mall.yaml").read_text())
    del mall["bess"]
    write(yaml.safe_dump(mall), "mall.yaml")
    write("co2_weight: 0.4\ncost_weight: 0.25\n", "reward.yaml")
    run = load_run(write(f"extends: {report_file}\nsite: mall.yaml\nreward: reward.yaml\n"))
    assert run.site.name == "iquitos_mall"
    assert run.site.bess is None  # not the station's
    assert run.reward.as_tuple() == (0.4, 0.2, 0.25, 0.1, 0.05)


def test_an_algorithm_file_that_is_named_must_be_complete(write, report_file):
    write("algorithm: ppo\nlearning_rate: 0.1\n", "mine.yaml")
    with pytest.raises(ConfigError, match=r"mine\.yaml: epochs: this key is missing"):
        load_run(write(f"extends: {report_file}\nalgorithms: {{ppo: mine.yaml}}\n"))


@pytest.mark.parametrize("circle", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_files_that_extend_each_other_in_a_circle_are_refused(write, circle):
    for name, following in zip(circle, circle[1:] + circle[:1], strict=True):
        path = write(f"extends: {following}.yaml\nname: x\n", f"{name}.yaml")
    with pytest.raises(ConfigError, match="extends: the files extend each other in a circle") as caught:
        load_run(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["[a.yaml]", "3", "{a: b}", "missing.yaml", '"zero\\0byte.yaml"', "a" * 3000]
)
def test_a_base_that_is_no_file_is_refused(write, value):
    path = write(f"extends: {value}\n")
    with pytest.raises(ConfigError) as caught:
        load_run(path)
    assert str(caught.value).startswith(f"{path}: extends: ")
    assert "\n" not in str(caught.value)


def test_errors_name_the_file_that_holds_the_value_and_its_key_there(write, report_file):
    ppo = (CONFIGS / "algorithms" / "ppo.yaml").read_text()
    write(ppo.replace("learning_rate: 1.0e-4", "learning_rate: fast"), "algorithms/mine.yaml")
    path = write(f"extends: {report_file}\nalgorithms: {{ppo: algorithms/mine.yaml}}\nseed: -1\n")
    with pytest.raises(ConfigError) as caught:
        load_run(path)
    lines = str(caught.value).splitlines()
    file = path.parent / "algorithms" / "mine.yaml"
    assert lines == [
        f'{file}: learning_rate: "fast" is not allowed: must be a valid number',
        f"{path}: seed: -1 is not allowed: must be greater than or equal to 0",
    ]


def test_only_the_named_algorithms_are_kept(report_file):
    assert load_run(report_file, algorithms=["ppo", "a2c"]).algorithms.names == ("a2c", "ppo")
    with pytest.raises(ConfigError, match=r"^--algo dqn: .*it has: a2c, sac, ppo$"):
        load_run(report_file, algorithms=["ppo", "dqn"])
