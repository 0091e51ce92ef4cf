"""The ladder without training: no control, rules, MPC and the optimum on one year, as a table and a report.

    .venv/bin/python experiments/run_baselines.py                     # test year, batch engine: six minutes
    .venv/bin/python experiments/run_baselines.py --engine both       # CityLearn too: an hour

Writes results, ``comparison.json`` and ``.csv`` and ``report.html`` to ``outputs/baselines``. With ``--engine
both`` the two engines must agree on every score, import and satisfaction to 0.1 %, else it exits with 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from iquitos_rl.config import RewardWeights, WindowConfig
from iquitos_rl.config.run import Engine
from iquitos_rl.control import ORACLE
from iquitos_rl.evaluation import Evaluator
from iquitos_rl.evaluation.console import comparison_table
from iquitos_rl.evaluation.ladder import LADDER, evaluate_ladder, ladder_controllers, write_frontier
from iquitos_rl.evaluation.publish import publish
from iquitos_rl.site import load_dataset
from iquitos_rl.training.agents import evaluate_with_progress

AGREE = ("score", "grid_import_kwh", "ev_satisfaction", "co2_grid_kg", "cost_usd", "mean_daily_peak_kw")
TOLERANCE = 1e-3


def differences(batch: Sequence[dict[str, Any]], citylearn: Sequence[dict[str, Any]]) -> list[str]:
    """Where the engines differ by more than `TOLERANCE`."""
    return [
        f"{one['controller']}: {key} is {one[key]:.6g} on batch, {other[key]:.6g} on citylearn"
        for one, other in zip(batch, citylearn, strict=True)
        for key in AGREE
        if abs(one[key] - other[key]) > TOLERANCE * abs(other[key])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, default=Path("datasets/iquitos_station"))
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--year", type=int, default=0)
    parser.add_argument("--days", type=int, help="only the first days of the year")
    parser.add_argument("--engine", default="batch", choices=("batch", "citylearn", "both"))
    parser.add_argument("--controllers", nargs="+", default=list(LADDER), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("outputs/baselines"))
    options = parser.parse_args()

    dataset = load_dataset(options.dataset)
    window = WindowConfig(steps=options.days * 24 if options.days else None)
    controllers = ladder_controllers(options.controllers)
    console = Console(stderr=True)
    engines: tuple[Engine, ...] = ("batch", "citylearn") if options.engine == "both" else (options.engine,)
    results: dict[Engine, list[dict[str, Any]]] = {}
    for engine in engines:
        evaluator = Evaluator(
            dataset, split=options.split, year=options.year, engine=engine, weights=RewardWeights()
        )
        folder = options.out if engine == engines[0] else options.out / engine
        results[engine] = evaluate_ladder(
            evaluator,
            controllers,
            window,
            folder,
            lambda judge, controller, hours: evaluate_with_progress(judge, controller, hours, console),
            lambda text: console.print(text, highlight=False, soft_wrap=True),
        )
        if engine == engines[0] and any(result["controller"] == ORACLE for result in results[engine]):
            write_frontier(evaluator, window, folder)
    published = publish([options.out])
    Console().print(comparison_table(published.rows))
    console.print(f"Report: {published.report}", highlight=False, soft_wrap=True)
    if options.engine != "both":
        return 0
    found = differences(results["batch"], results["citylearn"])
    for line in found or [f"Both engines agree on {', '.join(AGREE)} to {TOLERANCE:.1%} for all."]:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:  # their texts say what to do
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
