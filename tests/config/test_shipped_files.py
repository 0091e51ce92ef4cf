"""Every YAML that is shipped loads, and says what the design says."""

from pathlib import Path

import pytest
import yaml

from iquitos_rl.config import OBJECTIVES, load_reward, load_run, load_site

CONFIGS = Path(__file__).parents[2] / "ray_configs"
SITES = sorted((CONFIGS / "sites").glob("*.yaml"))
RUNS = sorted((CONFIGS / "runs").glob("*.yaml"))


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_every_shipped_site_loads_with_128_sockets_and_a_bess(path):
    site = load_site(path)
    assert site.name == path.stem
    assert site.socket_count == 128
    assert site.action_size == 129
    assert site.installed_power_kw == 272
    assert site.carbon_intensity_kg_per_kwh == 0.4521
    assert site.seconds_per_time_step == 3600


def test_an_action_vector_has_no_place_for_a_bess_that_is_not_there():
    site = load_site(CONFIGS / "sites" / "iquitos_station.yaml", ["bess=null"])
    assert site.bess is None
    assert site.action_size == 128


def test_the_reward_file_holds_the_designs_weights():
    weights = load_reward(CONFIGS / "reward.yaml")
    assert weights.as_tuple() == (0.50, 0.20, 0.15, 0.10, 0.05)
    assert [f"{name}_weight" for name in OBJECTIVES] == list(type(weights).model_fields)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_run_loads_under_its_own_name(path):
    run = load_run(path)
    assert run.name == path.stem
    assert set(run.algorithms.names) <= {"a2c", "sac", "ppo"}
    assert run.dataset_path == f"datasets/{run.site.name}"


def test_the_runs_the_readme_names_are_there():
    assert {"quick", "train_report", "train_all"} <= {path.stem for path in RUNS}


@pytest.mark.parametrize("name", ["a2c", "sac", "ppo"])
def test_the_report_run_uses_the_algorithm_files_to_the_letter(name):
    run = load_run(CONFIGS / "runs" / "train_report.yaml")
    stated = yaml.safe_load((CONFIGS / "algorithms" / f"{name}.yaml").read_text())
    assert getattr(run.algorithms, name).model_dump(mode="json") == stated


def test_the_quick_run_says_that_it_is_a_demonstration():
    run = load_run(CONFIGS / "runs" / "quick.yaml")
    assert run.demonstration
    assert not load_run(CONFIGS / "runs" / "train_all.yaml").demonstration
    assert [run.budget_env_steps(name) for name in run.algorithms.names] == [1008] * 3
