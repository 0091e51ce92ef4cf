"""Evaluation on both engines: no control scores 1, the KPIs add up, and the engines agree."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from iquitos_rl.config import WindowConfig, load_site
from iquitos_rl.control import load_controller
from iquitos_rl.evaluation import Evaluation, Evaluator
from iquitos_rl.kpis import HOURLY_COLUMNS
from iquitos_rl.site import DatasetError, build_dataset
from tests.training.policies import make_policy
from tests.training.small_run import small_site, write_site

pytestmark = pytest.mark.integration

STEPS = 48
START_DAY = 3
WINDOW = WindowConfig(start_day=START_DAY, steps=STEPS)
FLOAT32 = 1e-6
"""Relative: CityLearn keeps its energies in float32, the sums here are in float64."""


class Swinging:
    """Charges and discharges everything in turn, each action with a period of its own."""

    name = "swinging"
    mask_idle = True

    def prepare(self, env: Any) -> None:
        self._size = env.action_space.shape[0]
        self._hour = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self._hour += 1
        periods = 3.0 + np.arange(self._size)
        return np.sin(2 * np.pi * self._hour / periods).astype(np.float32)


@pytest.fixture(scope="module", params=["batch", "citylearn"])
def evaluator(request: pytest.FixtureRequest, small_dataset) -> Evaluator:
    return Evaluator(small_dataset, engine=request.param)


@pytest.fixture(scope="module")
def no_control(evaluator) -> Evaluation:
    return evaluator.evaluate(load_controller("no_control"), WINDOW)


@pytest.fixture(scope="module")
def swinging(evaluator) -> Evaluation:
    return evaluator.evaluate(Swinging(), WINDOW)


def assert_energy_balance(kpis: dict[str, Any]) -> None:
    consumed = (
        kpis["load_kwh"]
        + kpis["ev_draw_kwh"]
        - kpis["ev_discharge_kwh"]
        + kpis["bess_charge_kwh"]
        - kpis["bess_discharge_kwh"]
        - kpis["pv_generation_kwh"]
    )
    throughput = kpis["grid_import_kwh"] + kpis["grid_export_kwh"]
    assert kpis["grid_import_kwh"] - kpis["grid_export_kwh"] == pytest.approx(
        consumed, abs=FLOAT32 * throughput
    )


def test_no_control_scores_one(no_control: Evaluation):
    assert no_control.kpis["score"] == pytest.approx(1.0, abs=1e-5)
    weights = no_control.kpis["weights"]
    for name, component in no_control.kpis["score_components"].items():
        weight = weights[f"{name}_weight"]
        assert component == pytest.approx(weight, abs=1e-5), name


def test_no_control_on_citylearn_is_what_the_dataset_stores(no_control: Evaluation, small_dataset):
    start = WINDOW.start_step
    stored = small_dataset.no_control("test").hourly.iloc[start : start + STEPS]
    for name in (
        "grid_import_kwh",
        "grid_export_kwh",
        "load_kwh",
        "pv_generation_kwh",
        "ev_draw_kwh",
        "ev_delivered_kwh",
        "unserved_energy_kwh",
    ):
        expected = math.fsum(stored[name])
        assert no_control.kpis[name] == pytest.approx(expected, rel=1e-5, abs=1e-5), name
        assert no_control.hours[name].to_numpy() == pytest.approx(stored[name].to_numpy(), abs=1e-4), name
    assert no_control.kpis["ev_departures"] == stored["ev_departures"].sum() > 0
    shortfall = math.fsum(stored["satisfaction_shortfall"])
    satisfaction = 1 - shortfall / stored["ev_departures"].sum()
    assert no_control.kpis["ev_satisfaction"] == pytest.approx(satisfaction, rel=1e-5)


def test_the_energy_balance_closes(no_control: Evaluation, swinging: Evaluation):
    assert_energy_balance(no_control.kpis)
    assert_energy_balance(swinging.kpis)
    for row in range(STEPS):
        assert_energy_balance(dict(swinging.hours.iloc[row]))


def test_the_load_of_the_balance_is_the_load_of_the_data(swinging: Evaluation, small_dataset):
    # the flows take the load as what remains of the net consumption, so the balance alone proves little
    start = WINDOW.start_step
    stored = small_dataset.no_control("test").hourly["load_kwh"].iloc[start : start + STEPS]
    assert swinging.hours["load_kwh"].to_numpy() == pytest.approx(stored.to_numpy(), abs=2e-5)


def test_what_the_bess_takes_is_stored_given_back_or_lost(swinging: Evaluation):
    kpis = swinging.kpis
    assert kpis["bess_charge_kwh"] > 10
    assert kpis["bess_discharge_kwh"] > 5
    assert kpis["storage_losses_kwh"] > 0
    assert kpis["bess_charge_kwh"] - kpis["bess_discharge_kwh"] == pytest.approx(
        kpis["bess_stored_change_kwh"] + kpis["storage_losses_kwh"], abs=1e-5 * kpis["bess_charge_kwh"]
    )


@pytest.fixture(scope="module")
def v2g_evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    folder = tmp_path_factory.mktemp("v2g")
    sockets = small_site()["sockets"]
    sockets[0]["discharge_power_kw"] = 2.0
    dataset = build_dataset(load_site(write_site(folder, sockets=sockets)), folder / "dataset", 3)
    return Evaluator(dataset)


def test_the_balance_closes_with_vehicles_that_discharge(v2g_evaluator: Evaluator):
    kpis = v2g_evaluator.evaluate(Swinging(), WINDOW).kpis
    assert kpis["ev_discharge_kwh"] > 1
    assert_energy_balance(kpis)


def test_no_control_scores_one_on_a_site_with_vehicles_that_discharge(v2g_evaluator: Evaluator):
    kpis = v2g_evaluator.evaluate(load_controller("no_control"), WINDOW).kpis
    assert kpis["score"] == pytest.approx(1.0, abs=1e-5)


def test_derived_kpis_follow_from_the_others(swinging: Evaluation):
    kpis = swinging.kpis
    assert kpis["pv_used_kwh"] == pytest.approx(max(0.0, kpis["pv_generation_kwh"] - kpis["grid_export_kwh"]))
    assert kpis["solar_utilisation"] == pytest.approx(kpis["pv_used_kwh"] / kpis["pv_generation_kwh"])
    assert kpis["co2_grid_kg"] == pytest.approx(0.4521 * kpis["grid_import_kwh"], rel=1e-6)
    assert kpis["co2_net_kg"] == pytest.approx(kpis["co2_grid_kg"] - kpis["co2_avoided_solar_kg"])
    assert kpis["co2_unserved_kg"] == pytest.approx(2.146 * kpis["unserved_energy_kwh"])
    assert 0.2 <= kpis["cost_usd"] / kpis["grid_import_kwh"] <= 0.3
    assert kpis["peak_import_kw"] >= kpis["mean_daily_peak_kw"] > 0
    assert kpis["score"] == pytest.approx(sum(kpis["score_components"].values()))


def test_both_engines_give_the_same_result(small_dataset):
    batch, citylearn = (
        Evaluator(small_dataset, engine=engine).evaluate(Swinging(), WINDOW)
        for engine in ("batch", "citylearn")
    )
    pd.testing.assert_frame_equal(batch.hours, citylearn.hours, check_dtype=False, rtol=1e-5, atol=1e-5)
    assert batch.kpis.keys() == citylearn.kpis.keys()
    for name, value in citylearn.kpis.items():
        if isinstance(value, float):
            assert batch.kpis[name] == pytest.approx(value, rel=1e-5, abs=1e-4), name


def test_a_result_says_what_it_was_measured_on(swinging: Evaluation, evaluator: Evaluator, small_dataset):
    expected = {
        "controller": "swinging",
        "engine": evaluator.engine,
        "split": "test",
        "year": 0,
        "window": {"start_step": 72, "steps": 48},
        "site": "small_site",
        "dataset_fingerprint": small_dataset.fingerprint,
    }
    assert {key: swinging.kpis[key] for key in expected} == expected


def test_evaluating_again_gives_the_same_numbers(evaluator: Evaluator, swinging: Evaluation):
    evaluator.evaluate(
        load_controller("no_control"), WINDOW
    )  # leaves the shared environment elsewhere, masking off
    again = evaluator.evaluate(Swinging(), WINDOW)
    assert again.kpis == swinging.kpis
    pd.testing.assert_frame_equal(again.hours, swinging.hours)


def test_progress_is_told_of_every_step(evaluator: Evaluator):
    told: list[tuple[int, int]] = []
    evaluator.evaluate(Swinging(), WINDOW, lambda done, total: told.append((done, total)))
    assert told == [(step, STEPS) for step in range(1, STEPS + 1)]


def test_a_policy_is_evaluated_on_the_observation_it_was_trained_with(evaluator: Evaluator, tmp_path: Path):
    make_policy(tmp_path, "ppo", sockets=4)
    result = evaluator.evaluate(load_controller(tmp_path), WINDOW)
    assert result.kpis["controller"] == "ppo"
    assert_energy_balance(result.kpis)


def test_a_policy_of_another_site_is_refused(evaluator: Evaluator, tmp_path: Path):
    make_policy(tmp_path, "ppo", sockets=6)
    with pytest.raises(ValueError, match="64 observations, this site has 50"):
        evaluator.evaluate(load_controller(tmp_path), WINDOW)


def test_the_files_of_an_evaluation(swinging: Evaluation, tmp_path: Path):
    path = swinging.write(tmp_path / "new", experiment="x")
    assert path == tmp_path / "new/result_swinging.json"
    assert json.loads(path.read_text(encoding="utf-8")) == swinging.kpis | {"experiment": "x"}
    hours = pd.read_parquet(tmp_path / "new/timeseries_swinging.parquet")
    pd.testing.assert_frame_equal(hours, swinging.hours)
    assert set(HOURLY_COLUMNS) <= set(hours.columns)
    assert hours["hour_of_year"].tolist() == list(range(72, 72 + STEPS))


@pytest.mark.parametrize(("split", "year"), [("test", 1), ("holdout", 0), ("validation", -1)])
def test_a_year_that_is_not_there_is_refused(split: str, year: int, small_dataset):
    with pytest.raises(DatasetError):
        Evaluator(small_dataset, split=split, year=year)
