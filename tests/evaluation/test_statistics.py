"""Means and intervals over seeds, against a table of Student's t."""

from __future__ import annotations

from typing import Any

import pytest

from iquitos_rl.evaluation.statistics import confidence_interval, over_seeds


def result(seed: int, score: float, **more: Any) -> dict[str, Any]:
    return {
        "controller": "ppo",
        "seed": seed,
        "year": 0,
        "score": score,
        "grid_import_kwh": 100.0,
        "ev_satisfaction": 0.9,
        "score_components": {"co2": score / 2, "solar": score / 2},
        "profiles": {"hourly": {"load_kwh": [seed]}},
        **more,
    }


def test_the_interval_is_student_s():
    # mean 2, standard error 1 / sqrt(3), t(0.975, 2) = 4.3027
    low, high = confidence_interval([1.0, 2.0, 3.0]) or (0.0, 0.0)
    assert low == pytest.approx(2 - 4.302653 / 3**0.5)
    assert high == pytest.approx(2 + 4.302653 / 3**0.5)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_fewer_than_three_seeds_have_no_interval(values: list[float]):
    assert confidence_interval(values) is None


def test_numbers_are_means_and_the_rest_is_of_the_median_seed():
    merged = over_seeds([result(1, 0.6), result(2, 0.5), result(3, 0.9)])
    assert merged["score"] == pytest.approx(2 / 3)
    assert merged["score_components"] == {"co2": pytest.approx(1 / 3), "solar": pytest.approx(1 / 3)}
    assert merged["profiles"] == {"hourly": {"load_kwh": [1]}}
    assert merged["seed"] == 1
    assert merged["seeds"] == 3
    assert [r["score"] for r in merged["seed_results"]] == [0.6, 0.5, 0.9]
    low, high = merged["intervals"]["score"]
    assert low < 2 / 3 < high
    assert merged["intervals"]["grid_import_kwh"] == [100.0, 100.0]


def test_one_result_stays_as_it_is():
    one = result(7, 0.123456789)
    merged = over_seeds([one])
    assert {key: merged[key] for key in one} == one
    assert merged["seeds"] == 1
    assert merged["intervals"] == {}


def test_a_number_that_a_seed_lacks_has_no_interval():
    merged = over_seeds([result(1, 0.6), result(2, 0.5, solar_utilisation=0.5), result(3, 0.4)])
    assert "solar_utilisation" not in merged["intervals"]
