"""The three checks of the configuration, each broken by the file that would break it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from iquitos_rl.checks import Outcome, Result
from iquitos_rl.checks.configuration import check_carbon, check_time_step, check_weights, read_run
from iquitos_rl.config import ConfigError
from iquitos_rl.site import Dataset
from iquitos_rl.site.storage import read_table, write_table
from tests.checks.conftest import made
from tests.training.small_run import write_site

WEIGHTS = {
    "co2_weight": 0.5,
    "solar_weight": 0.2,
    "cost_weight": 0.15,
    "ev_satisfaction_weight": 0.1,
    "grid_stability_weight": 0.05,
}


def checked(run: Path, dataset: Path | None = None) -> dict[str, Result]:
    file = read_run(run, ())
    return {
        "weights": made(lambda: check_weights(file)),
        "carbon": made(lambda: check_carbon(file, dataset)),
        "time_step": made(lambda: check_time_step(file, dataset)),
    }


def outcomes(results: dict[str, Result]) -> dict[str, str]:
    return {name: str(result.outcome) for name, result in results.items()}


def with_weights(run: Path, **changes: float) -> Path:
    (run.parent / "reward.yaml").write_text(yaml.safe_dump(WEIGHTS | changes))
    data = yaml.safe_load(run.read_text())
    run.write_text(yaml.safe_dump(data | {"reward": "reward.yaml"}))
    return run


def test_the_shipped_numbers_pass(run_file: Path, small_dataset: Dataset):
    results = checked(run_file, small_dataset.path)
    assert {r.outcome for r in results.values()} == {Outcome.passed}
    assert "CO2 0.50" in results["weights"].detail
    assert "0.4521" in results["carbon"].detail
    assert "3600" in results["time_step"].detail


def test_another_co2_weight_fails(run_file: Path):
    results = checked(with_weights(run_file, co2_weight=0.6, solar_weight=0.1))
    assert outcomes(results) == {"weights": "failed", "carbon": "passed", "time_step": "passed"}
    assert results["weights"].detail == "reward: co2_weight is 0.6, expected 0.50"
    assert "co2_weight: 0.50" in results["weights"].remedy


def test_weights_that_do_not_sum_to_1_fail(run_file: Path):
    results = checked(with_weights(run_file, solar_weight=0.3))
    assert outcomes(results) == {"weights": "failed", "carbon": "skipped", "time_step": "skipped"}
    assert "reward.yaml" in results["weights"].detail
    assert "must sum to 1, they sum to 1.1" in results["weights"].detail


def test_another_carbon_intensity_fails(run_file: Path):
    write_site(run_file.parent, carbon_intensity_kg_per_kwh=0.21)
    results = checked(run_file)
    assert outcomes(results) == {"weights": "passed", "carbon": "failed", "time_step": "passed"}
    assert "carbon_intensity_kg_per_kwh is 0.21, expected 0.4521" in results["carbon"].detail


def test_another_carbon_intensity_in_the_data_fails(run_file: Path, copied_dataset: Dataset):
    (table,) = copied_dataset.year_path("validation").glob("carbon_intensity.*")
    columns = {str(name): values.to_numpy().copy() for name, values in read_table(table).items()}
    columns["carbon_intensity"][5000] = 0.9
    write_table(columns, table)
    results = checked(run_file, copied_dataset.path)
    assert outcomes(results) == {"weights": "passed", "carbon": "failed", "time_step": "passed"}
    assert f"{table}: carbon intensity between 0.4521 and 0.9" in results["carbon"].detail


def test_another_time_step_in_the_site_file_fails(run_file: Path):
    write_site(run_file.parent, seconds_per_time_step=1800)
    results = checked(run_file)
    assert outcomes(results) == {"weights": "skipped", "carbon": "skipped", "time_step": "failed"}
    assert "site.yaml: seconds_per_time_step: 1800 is not allowed" in results["time_step"].detail


def test_another_time_step_in_the_data_fails(run_file: Path, copied_dataset: Dataset):
    schema = copied_dataset.schema_path("test")
    schema.write_text(json.dumps(json.loads(schema.read_text()) | {"seconds_per_time_step": 900}))
    results = checked(run_file, copied_dataset.path)
    assert outcomes(results) == {"weights": "passed", "carbon": "passed", "time_step": "failed"}
    assert f"{schema}: seconds_per_time_step is 900, expected 3600" in results["time_step"].detail


def test_a_mistake_that_belongs_to_none_of_the_three_is_shown_once(run_file: Path):
    write_site(run_file.parent, feeder_limit_kw="much")
    results = checked(run_file)
    assert outcomes(results) == {"weights": "failed", "carbon": "skipped", "time_step": "skipped"}
    assert "feeder_limit_kw" in results["weights"].detail


@pytest.mark.parametrize(("file", "overrides"), [("nowhere.yaml", []), ("run.yaml", ["sede=1"])])
def test_a_command_that_is_wrong_is_no_finding(run_file: Path, file: str, overrides: list[str]):
    with pytest.raises(ConfigError):
        read_run(run_file.with_name(file), overrides)
