"""The three checks of the data, each broken by data that is not what the site file says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iquitos_rl.checks import Outcome
from iquitos_rl.checks.dataset import check_action, check_bess, check_sockets, open_dataset
from iquitos_rl.config import RunConfig, load_run, load_site
from iquitos_rl.site import Dataset, build_dataset
from iquitos_rl.site.storage import read_table, write_table
from tests.checks.conftest import made
from tests.training.small_run import SEED, write_run, write_site


def change_schema(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Path:
    """Change a schema and its building in place."""
    schema = json.loads(path.read_text())
    (building,) = schema["buildings"].values()
    change(schema, building)
    path.write_text(json.dumps(schema))
    return path


def test_the_data_of_the_site_file_passes(run: RunConfig, small_dataset: Dataset):
    sockets = made(lambda: check_sockets(small_dataset, run))
    assert (str(sockets.outcome), sockets.detail) == ("passed", "4 sockets in each of 3 years, files intact")
    assert made(lambda: check_bess(small_dataset, run.site)).detail == "20 kWh, 12 kW in each year"
    action = made(lambda: check_action(small_dataset, run))
    assert (str(action.outcome), action.detail) == ("passed", "5 numbers; a day stepped")


def test_data_with_another_number_of_sockets_fails(run: RunConfig, copied_dataset: Dataset):
    schema = change_schema(
        copied_dataset.schema_path("train"), lambda _, building: building["chargers"].popitem()
    )
    result = made(lambda: check_sockets(copied_dataset, run))
    assert result.outcome is Outcome.failed
    assert result.detail == f"{schema}: 3 sockets, the site file has 4"
    assert "iquitos-rl dataset build" in result.remedy
    action = made(lambda: check_action(copied_dataset, run))
    assert action.outcome is Outcome.failed
    assert "an action has 4 numbers, the site file makes it 5 (4 sockets and the BESS)" in action.detail


def test_data_of_another_site_file_fails(run: RunConfig, small_dataset: Dataset, tmp_path: Path):
    other = load_site(write_site(tmp_path, feeder_limit_kw=6.0))
    result = made(lambda: check_sockets(small_dataset, run.model_copy(update={"site": other})))
    assert result.outcome is Outcome.failed
    assert "made from another site file or seed" in result.detail


def test_data_of_another_seed_fails(run: RunConfig, small_dataset: Dataset):
    dataset = run.dataset.model_copy(update={"seed": 8})
    result = made(lambda: check_sockets(small_dataset, run.model_copy(update={"dataset": dataset})))
    assert result.outcome is Outcome.failed
    assert "seed 7; the run has small_site, seed 8" in result.detail


def test_damaged_data_fails(run: RunConfig, copied_dataset: Dataset):
    (table,) = copied_dataset.year_path("test").glob("weather.*")
    table.write_bytes(table.read_bytes()[:-1])
    result = made(lambda: check_sockets(copied_dataset, run))
    assert result.outcome is Outcome.failed
    assert f"{table}: missing or changed since the dataset was built" in result.detail


def test_data_without_the_bess_fails(run: RunConfig, copied_dataset: Dataset):
    schema = change_schema(
        copied_dataset.schema_path("validation"), lambda _, building: building.pop("electrical_storage")
    )
    result = made(lambda: check_bess(copied_dataset, run.site))
    assert result.outcome is Outcome.failed
    assert result.detail.startswith(f"{schema}: no BESS")
    assert "the site file has one of 20 kWh" in result.detail


def test_data_with_another_bess_fails(run: RunConfig, copied_dataset: Dataset):
    change_schema(
        copied_dataset.schema_path("test"),
        lambda _, building: building["electrical_storage"]["attributes"].update(capacity=25.0),
    )
    result = made(lambda: check_bess(copied_dataset, run.site))
    assert result.outcome is Outcome.failed
    assert "electrical_storage.capacity is 25.0, the site file has 20" in result.detail


def test_a_site_without_a_bess_is_a_warning(run: RunConfig, small_dataset: Dataset, tmp_path: Path):
    site = load_site(write_site(tmp_path, bess=None))
    bare = build_dataset(site, tmp_path / "bare", SEED)
    result = made(lambda: check_bess(bare, site))
    assert result.outcome is Outcome.warning
    assert "has no BESS" in result.detail
    assert made(lambda: check_action(bare, run.model_copy(update={"site": site}))).detail.startswith("4 ")
    # where only the data has one, it is no longer the site file's
    result = made(lambda: check_bess(small_dataset, site))
    assert (result.outcome, "the site file has none" in result.detail) == (Outcome.failed, True)


def test_a_bess_that_cannot_be_controlled_fails_the_action(run: RunConfig, copied_dataset: Dataset):
    def deactivate(schema: dict[str, Any], building: dict[str, Any]) -> None:
        schema["actions"]["electrical_storage"]["active"] = False

    change_schema(copied_dataset.schema_path("train"), deactivate)
    result = made(lambda: check_action(copied_dataset, run))
    assert result.outcome is Outcome.failed
    assert "electrical_storage without its action" in result.detail


def test_a_schema_with_two_buildings_fails(run: RunConfig, copied_dataset: Dataset):
    schema = change_schema(
        copied_dataset.schema_path("test"), lambda schema, one: schema["buildings"].update(second=one)
    )
    for check in (lambda: check_sockets(copied_dataset, run), lambda: check_bess(copied_dataset, run.site)):
        result = made(check)
        assert (result.outcome, result.detail) == (Outcome.failed, f"{schema}: expected one building")


def test_data_that_is_not_finite_fails_the_action(run: RunConfig, copied_dataset: Dataset):
    (file,) = copied_dataset.year_path("train").glob("building.*")
    columns = {str(name): values.to_numpy().copy() for name, values in read_table(file).items()}
    columns["non_shiftable_load"][:] = np.inf
    write_table(columns, file)
    result = made(lambda: check_action(copied_dataset, run))
    assert result.outcome is Outcome.failed
    assert "is not finite" in result.detail


def test_sockets_that_discharge_against_the_site_file_fail_the_action(
    run: RunConfig, copied_dataset: Dataset
):
    def let_discharge(_: dict[str, Any], building: dict[str, Any]) -> None:
        charger = next(iter(building["chargers"].values()))
        charger["attributes"]["max_discharging_power"] = 2.0

    change_schema(copied_dataset.schema_path("train"), let_discharge)
    result = made(lambda: check_action(copied_dataset, run))
    assert result.outcome is Outcome.failed
    assert "bounds of the action differ" in result.detail


def test_a_missing_dataset_is_built_where_training_would_build_it(tmp_path: Path):
    run = load_run(write_run(tmp_path))
    said: list[str] = []
    dataset = open_dataset(run, build=True, say=said.append)
    assert dataset.path == tmp_path / "datasets/small_site"
    assert made(lambda: check_sockets(dataset, run)).outcome is Outcome.passed
    assert len(said) == 1
    assert str(dataset.path) in said[0]


@pytest.mark.parametrize("build", [True, False])
def test_what_is_no_dataset_is_left_alone(tmp_path: Path, build: bool):
    run = load_run(write_run(tmp_path))
    folder = tmp_path / "datasets/small_site"
    if build:  # something else is there
        folder.mkdir(parents=True)
        (folder / "thesis.txt").write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    result = made(lambda: str(open_dataset(run, build=build, say=print)))
    assert result.outcome is Outcome.failed
    assert f"{folder}: no dataset here" in result.detail
    assert "iquitos-rl dataset build" in result.detail + result.remedy
    assert sorted(tmp_path.rglob("*")) == before
