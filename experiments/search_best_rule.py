"""Search the best rule's numbers on the training years, one at a time, over and over until none helps.

    .venv/bin/python experiments/search_best_rule.py [DATASET]

Prints every trial and, at the end, the numbers for `BestRuleParameters`. Validation and test years are not
looked at. About ten minutes for five years on one core.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from iquitos_rl.control.best_rule import BestRule, BestRuleParameters
from iquitos_rl.evaluation import Evaluator
from iquitos_rl.site import load_dataset

STEPS: dict[str, tuple[float, ...]] = {
    # Tried as multiples of the present value.
    "laxity_weight": (0.7, 1.4),
    "evening_feeder_share": (0.97, 1.03),
    "cheap_hour_kw": (0.5, 2.0),
    "day_draw_kw": (0.5, 2.0),
    "sun_trust": (0.75, 1.25),
}
EVENINGS = ((16, 22), (17, 22), (18, 22), (17, 23))


def candidates(best: BestRuleParameters) -> list[BestRuleParameters]:
    numbers: list[dict[str, Any]] = [
        {name: getattr(best, name) * factor} for name, factors in STEPS.items() for factor in factors
    ]
    return [replace(best, **change) for change in [*numbers, *({"evening": e} for e in EVENINGS)]]


def main(path: str = "datasets/iquitos_station") -> None:
    dataset = load_dataset(path)
    years = [Evaluator(dataset, split="train", year=year) for year in range(dataset.years("train"))]

    def mean_score(parameters: BestRuleParameters) -> float:
        return sum(year.evaluate(BestRule(parameters)).kpis["score"] for year in years) / len(years)

    best = BestRuleParameters()
    lowest = mean_score(best)
    print(f"{lowest:.5f} {best}", flush=True)
    improved = True
    while improved:
        improved = False
        for parameters in candidates(best):
            score = mean_score(parameters)
            print(f"{score:.5f} {parameters}", flush=True)
            if score < lowest - 1e-5:
                best, lowest, improved = parameters, score, True
    print(f"best: {lowest:.5f} {best}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
