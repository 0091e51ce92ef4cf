"""Evaluation on both engines: no control scores 1, the KPIs add up, and the engines agree."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from iquitos_rl.config import WindowConfig, load_site
from iquitos_rl.control import load_controller
from iquitos_rl.control.controller import Kind
from iquitos_rl.env import make_env
from iquitos_rl.env.situation import Episode, Situation
from iquitos_rl.evaluation import Evaluation, Evaluator
from iquitos_rl.evaluation.ladder import evaluate_ladder, ladder_controllers
from iquitos_rl.evaluation.rollout import rollout
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
    kind: Kind = "rule"
    mask_idle = True
    observation = None
    settings: ClassVar[dict[str, Any]] = {"periods": "rising"}

    def __init__(self, memoryless: bool = True) -> None:
        self.memoryless = memoryless

    def prepare(self, episode: Episode) -> None:
        self._size = episode.plant.action_size

    def act(self, situation: Situation) -> np.ndarray:
        periods = 3.0 + np.arange(self._size)
        return np.sin(2 * np.pi * situation.site.hour_of_year[:, None] / periods)


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
    pd.testing.assert_frame_equal(
        batch.departures, citylearn.departures, check_dtype=False, rtol=1e-5, atol=1e-6
    )
    assert batch.kpis.keys() == citylearn.kpis.keys() - {"citylearn_kpis"}
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
        "controller_settings": {"periods": "rising"},
        "definitions": 1,
    }
    assert swinging.kpis["versions"]["citylearn"] == "3.0.2"
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
    evaluator.evaluate(Swinging(memoryless=False), WINDOW, lambda done, total: told.append((done, total)))
    assert told == [(step, STEPS) for step in range(1, STEPS + 1)]


def test_a_policy_is_evaluated_on_the_observation_it_was_trained_with(evaluator: Evaluator, tmp_path: Path):
    make_policy(tmp_path, "ppo", sockets=4)
    result = evaluator.evaluate(load_controller(tmp_path), WINDOW)
    assert result.kpis["controller"] == "ppo"
    assert result.kpis["kind"] == "agent"
    assert result.kpis["policy"] == str(tmp_path)
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
    departures = pd.read_parquet(tmp_path / "new/departures_swinging.parquet")
    pd.testing.assert_frame_equal(departures, swinging.departures)
    assert set(HOURLY_COLUMNS) <= set(hours.columns)
    assert hours["hour_of_year"].tolist() == list(range(72, 72 + STEPS))


@pytest.mark.parametrize(("split", "year"), [("test", 1), ("holdout", 0), ("validation", -1)])
def test_a_year_that_is_not_there_is_refused(split: str, year: int, small_dataset):
    with pytest.raises(DatasetError):
        Evaluator(small_dataset, split=split, year=year)


def test_days_side_by_side_give_the_very_numbers_of_hour_by_hour(small_dataset):
    # a window that ends within a day, and a BESS that is not empty at midnight
    window = WindowConfig(start_day=3, steps=24 * 9 + 7)
    evaluator = Evaluator(small_dataset)
    together, one_by_one = (evaluator.evaluate(Swinging(memoryless=m), window) for m in (True, False))
    assert (together.hours["bess_stored_kwh"].to_numpy()[23::24] > 4).any()
    pd.testing.assert_frame_equal(together.hours, one_by_one.hours, check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(together.departures, one_by_one.departures, check_exact=True)
    assert together.kpis == one_by_one.kpis


def test_days_side_by_side_hand_over_vehicles_that_stay_the_night(tmp_path: Path):
    sessions = small_site()["sessions"]
    sessions["dwell"] |= {"one_hour_probability": 0.0, "busy_one_hour_probability": 0.0}
    sessions["dwell"]["long_stay_hours"] = [20, 22]
    sessions["arrivals"] = [{"hours": [10, 23], "probability": 0.3}]
    folder = tmp_path / "site"
    folder.mkdir()
    site = load_site(write_site(folder, sessions=sessions, opening_hours=[0, 24]))
    evaluator = Evaluator(build_dataset(site, tmp_path / "dataset", 3))
    window = WindowConfig(start_day=2, steps=24 * 6)
    together, one_by_one = (evaluator.evaluate(Swinging(memoryless=m), window) for m in (True, False))
    assert len(together.departures)
    pd.testing.assert_frame_equal(together.hours, one_by_one.hours, check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(together.departures, one_by_one.departures, check_exact=True)


@pytest.mark.parametrize(
    "name", ["no_control+self_consumption", "plug_and_charge", "laxity_first", "best_rule"]
)
def test_both_engines_agree_on_every_rule(name: str, small_dataset):
    batch, citylearn = (
        Evaluator(small_dataset, engine=engine).evaluate(load_controller(name), WINDOW).kpis
        for engine in ("batch", "citylearn")
    )
    assert batch["ev_departures"] == citylearn["ev_departures"] > 0
    for key, value in citylearn.items():
        if isinstance(value, float) and key != "energy_balance_error":
            assert batch[key] == pytest.approx(value, rel=1e-5, abs=1e-4), key


def test_citylearn_s_own_kpis_stand_beside_ours(small_dataset):
    kpis = Evaluator(small_dataset, engine="citylearn").evaluate(load_controller("laxity_first"), WINDOW).kpis
    district = kpis["citylearn_kpis"]["District"]
    assert len(district) > 50
    (throughput,) = (v for k, v in district.items() if k == "district_battery_total_throughput_kwh")
    assert throughput == pytest.approx(kpis["bess_throughput_kwh"], rel=1e-3)


def test_a_result_whose_energy_does_not_balance_is_refused(small_dataset, monkeypatch: pytest.MonkeyPatch):
    from iquitos_rl.env.batch import flows

    real = flows.hourly_flows
    broken = lambda engine: real(engine) | {"load_kwh": 1.00001 * real(engine)["load_kwh"]}  # noqa: E731
    monkeypatch.setattr("iquitos_rl.evaluation.rollout.hourly_flows", broken)
    with pytest.raises(RuntimeError, match="energy balance is open"):
        Evaluator(small_dataset).evaluate(load_controller("laxity_first"), WINDOW)


class Reading:
    """Acts on the whole observation, in plain numpy: alike for one site and for many."""

    name = "reading"
    kind: Kind = "rule"
    mask_idle = True
    observation: Any = "features"
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, memoryless: bool) -> None:
        self.memoryless = memoryless

    def prepare(self, episode: Episode) -> None:
        shape = (*episode.observation_space.shape, episode.plant.action_size)
        self._weights = np.random.default_rng(1).normal(0, 0.3, shape)

    def act(self, situation: Situation) -> np.ndarray:
        observation = situation.observation.astype(float)
        return np.stack([np.tanh((row[:, None] * self._weights).sum(axis=0)) for row in observation])


@pytest.mark.parametrize(("start", "steps"), [(72, 24 * 8 + 5), (29, 60), (83, 24)])
def test_days_side_by_side_show_controllers_the_same_observations(start: int, steps: int, small_dataset):
    results = []
    for memoryless in (True, False):
        env = make_env(small_dataset.schema_path("test"), episode_steps=steps)
        results.append(rollout(env, Reading(memoryless), start))
    together, one_by_one = results
    pd.testing.assert_frame_equal(together.hours, one_by_one.hours, check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(together.departures, one_by_one.departures, check_exact=True)


def test_where_days_never_forget_the_one_before_they_are_simulated_in_turn(tmp_path: Path):
    site = small_site()
    site["bess"] |= {"capacity_loss_coefficient": 0.001}
    (tmp_path / "site").mkdir()
    worn = load_site(write_site(tmp_path / "site", bess=site["bess"]))
    evaluator = Evaluator(build_dataset(worn, tmp_path / "dataset", 3))
    told: list[int] = []
    window = WindowConfig(start_day=2, steps=24 * 12)
    together = evaluator.evaluate(Swinging(), window, lambda done, total: told.append(done))
    assert told[-1] == 24 * 12
    assert len(told) > 24 * 12  # a few passes, then hour by hour
    one_by_one = evaluator.evaluate(Swinging(memoryless=False), window)
    pd.testing.assert_frame_equal(together.hours, one_by_one.hours, check_exact=True, check_dtype=False)


def test_data_that_does_not_begin_a_day_is_refused(tmp_path: Path):
    (tmp_path / "site").mkdir()
    dataset = build_dataset(load_site(write_site(tmp_path / "site")), tmp_path / "dataset", 3)
    (table,) = dataset.year_path("test").glob("building*.parquet")
    hours = pd.read_parquet(table)
    hours["hour"] = (hours["hour"] + 4) % 24 + 1
    hours.to_parquet(table, index=False)
    with pytest.raises(ValueError, match="not the first hour of a day"):
        Evaluator(dataset).evaluate(load_controller("laxity_first"), WINDOW)


def test_a_ladder_leaves_out_who_cannot_control_the_site(tmp_path: Path):
    (tmp_path / "site").mkdir()
    bess = small_site()["bess"] | {"standby_loss_per_hour": 0.001}
    dataset = build_dataset(load_site(write_site(tmp_path / "site", bess=bess)), tmp_path / "dataset", 3)
    said: list[str] = []
    results = evaluate_ladder(
        Evaluator(dataset), ladder_controllers(["oracle", "mpc", "best_rule"]), WINDOW, say=said.append
    )
    assert [result["controller"] for result in results] == ["no_control", "best_rule"]
    assert [line.partition(":")[0] for line in said] == ["oracle", "mpc"]
    assert all("standby losses" in line and line.endswith("left out") for line in said)
