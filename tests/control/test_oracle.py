"""The oracle as a controller: replayed, it does what it planned on both engines; nothing scores below it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from iquitos_rl.config import WindowConfig
from iquitos_rl.control import Oracle, load_controller
from iquitos_rl.control.best_rule import BestRule, BestRuleParameters
from iquitos_rl.control.optimum.optimum import solve_optimum
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.evaluation import Evaluator
from iquitos_rl.evaluation.ladder import LADDER
from tests.control.any_rule import AnyRule, CheatingBestRule

pytestmark = pytest.mark.integration

WINDOW = WindowConfig(start_day=3, steps=24 * 10)
SEEDS = 40


@pytest.fixture(scope="module")
def evaluator(small_dataset: Any) -> Evaluator:
    return Evaluator(small_dataset)


@pytest.fixture(scope="module")
def optimum(evaluator: Evaluator) -> dict[str, Any]:
    return evaluator.evaluate(Oracle(), WINDOW).kpis


@pytest.mark.parametrize("engine", ["batch", "citylearn"])
def test_the_replayed_schedule_does_what_the_programme_says(engine: Any, small_dataset: Any):
    replayed = Evaluator(small_dataset, engine=engine).evaluate(Oracle(), WINDOW).kpis
    planned = solve_optimum(
        load_years([small_dataset.schema_path("test")]),
        0,
        WINDOW.start_step,
        WINDOW.step_count,
        reference=small_dataset.no_control("test").reference(WINDOW.start_step, WINDOW.step_count),
        weights=Evaluator(small_dataset).weights,
    )
    assert replayed["score"] == pytest.approx(planned.score, rel=1e-4)
    for name, component in planned.score_components.items():
        assert replayed["score_components"][name] == pytest.approx(component, rel=1e-3, abs=1e-5), name
    assert replayed["controller"] == "oracle"


def test_satisfaction_first_serves_no_worse_and_at_least_reaches_what_is_asked(
    evaluator: Evaluator, optimum: dict[str, Any]
):
    first = evaluator.evaluate(load_controller("oracle_satisfaction_first"), WINDOW).kpis
    assert first["ev_satisfaction"] >= optimum["ev_satisfaction"] - 1e-6
    asked = evaluator.evaluate(load_controller("oracle_satisfaction_0.7"), WINDOW).kpis
    assert asked["ev_satisfaction"] == pytest.approx(0.7, abs=1e-4)
    assert asked["grid_import_kwh"] < first["grid_import_kwh"]


@pytest.mark.parametrize("name", [name for name in (*LADDER, "random") if "oracle" not in name])
def test_no_rule_of_the_ladder_is_below_the_optimum(name: str, evaluator: Evaluator, optimum: dict[str, Any]):
    assert evaluator.evaluate(load_controller(name), WINDOW).kpis["score"] > optimum["score"]


def test_a_search_over_rules_that_cheat_finds_nothing_below_the_optimum(
    evaluator: Evaluator, optimum: dict[str, Any]
):
    scores = [evaluator.evaluate(AnyRule(seed), WINDOW).kpis["score"] for seed in range(SEEDS)]
    assert min(scores) > optimum["score"]
    assert min(scores) < 0.75  # the search gets somewhere


def test_the_best_rule_gains_nothing_by_cheating_beyond_the_optimum(
    evaluator: Evaluator, optimum: dict[str, Any]
):
    honest = evaluator.evaluate(BestRule(), WINDOW).kpis["score"]
    scores = [evaluator.evaluate(CheatingBestRule(seed), WINDOW).kpis["score"] for seed in range(SEEDS)]
    assert min(scores) > optimum["score"]
    assert min(scores) < honest + 0.02  # many cheat so little that they stay near


def test_a_search_over_the_best_rule_s_numbers_finds_nothing_below_the_optimum(
    evaluator: Evaluator, optimum: dict[str, Any]
):
    random = np.random.default_rng(0)
    for _ in range(SEEDS):
        first = int(random.integers(12, 20))
        parameters = replace(
            BestRuleParameters(),
            evening=(first, int(random.integers(first + 1, 24))),
            evening_feeder_share=float(random.uniform(0, 1.5)),
            cheap_hour_kw=float(random.uniform(-2, 2)),
            sun_trust=float(random.uniform(0, 2)),
        )
        assert evaluator.evaluate(BestRule(parameters), WINDOW).kpis["score"] > optimum["score"]


def test_the_oracle_knows_only_its_own_hours(evaluator: Evaluator):
    oracle = Oracle()
    shorter = WindowConfig(start_day=5, steps=30)
    one = evaluator.evaluate(oracle, shorter).kpis
    evaluator.evaluate(oracle, WINDOW)
    again = evaluator.evaluate(oracle, shorter).kpis
    assert one == again
    assert one["window"] == {"start_step": 120, "steps": 30}
