"""Model-predictive control: between the optimum and the rule, on both engines, without foresight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from iquitos_rl.config import WindowConfig
from iquitos_rl.control import Mpc, load_controller
from iquitos_rl.evaluation import Evaluator
from iquitos_rl.site import build_dataset
from tests.control.situations import episode
from tests.small_site import small_site

pytestmark = pytest.mark.integration

WINDOW = WindowConfig(start_day=30, steps=24 * 14)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_dataset(small_site(), tmp_path_factory.mktemp("mpc") / "site", 5)


@pytest.fixture(scope="module")
def scores(dataset: Any) -> dict[str, float]:
    evaluator = Evaluator(dataset)
    names = ("mpc", "laxity_first", "oracle")
    return {name: evaluator.evaluate(load_controller(name), WINDOW).kpis["score"] for name in names}


def test_it_lies_between_the_optimum_and_least_laxity(scores: dict[str, float]):
    assert scores["oracle"] < scores["mpc"] < scores["laxity_first"]


def test_both_engines_agree_on_it(dataset: Any):
    window = WindowConfig(start_day=30, steps=36)
    batch, citylearn = (
        Evaluator(dataset, engine=engine).evaluate(Mpc(), window).kpis for engine in ("batch", "citylearn")
    )
    assert batch["score"] == pytest.approx(citylearn["score"], rel=1e-4)


def test_hours_to_come_do_not_change_what_it_does_now(dataset: Any):
    evaluator = Evaluator(dataset)
    short = evaluator.evaluate(Mpc(), WindowConfig(start_day=30, steps=48)).hours
    long = evaluator.evaluate(Mpc(), WindowConfig(start_day=30, steps=96)).hours
    assert np.array_equal(short["grid_import_kwh"], long["grid_import_kwh"][:48])


def test_it_starts_anew_with_each_episode(dataset: Any):
    controller, window = Mpc(), WindowConfig(start_day=40, steps=48)
    evaluator = Evaluator(dataset)
    first = evaluator.evaluate(controller, window)
    assert len(controller.solve_seconds) == 48
    again = evaluator.evaluate(controller, window)
    assert len(controller.solve_seconds) == 48
    assert again.kpis == first.kpis


def test_without_training_years_it_says_what_it_needs():
    with pytest.raises(ValueError, match="learns its forecasts from training years"):
        Mpc().prepare(episode())
