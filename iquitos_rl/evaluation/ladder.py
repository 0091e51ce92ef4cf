"""The ladder: what a site does without control, with rules, with forecasts, and at best."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from iquitos_rl.config.run import WindowConfig
from iquitos_rl.control import Controller, UnsuitableError, load_controller
from iquitos_rl.control.optimum.optimum import frontier
from iquitos_rl.control.optimum.window import window_of
from iquitos_rl.env.batch.years import load_years
from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.evaluate import Evaluation, Evaluator
from iquitos_rl.files import write_json

__all__ = ["FRONTIER_FILE", "LADDER", "evaluate_ladder", "ladder_controllers", "write_frontier"]

LOGGER = logging.getLogger(__name__)

LADDER = (
    BASELINE,
    "no_control+self_consumption",
    "plug_and_charge",
    "laxity_first+idle",
    "laxity_first",
    "none+self_consumption",
    "best_rule",
    "mpc",
    "oracle",
    "oracle_satisfaction_first",
    "oracle_satisfaction_0.91",
)
"""Everything that a trained agent stands beside."""
FRONTIER_FILE = "frontier.json"
FRONTIER_POINTS = 7
"""Each takes a year about eight seconds."""

Evaluate = Callable[[Evaluator, Controller, WindowConfig], Evaluation]


def ladder_controllers(names: Sequence[str]) -> list[Controller]:
    """The controllers of these names, no control first.

    Raises:
        ControllerError: a name that is none.
    """
    return [load_controller(name) for name in dict.fromkeys((BASELINE, *names))]


def evaluate_ladder(
    evaluator: Evaluator,
    controllers: Sequence[Controller],
    window: WindowConfig,
    folder: Path | None = None,
    evaluate: Evaluate = Evaluator.evaluate,
    say: Callable[[str], None] = LOGGER.warning,
) -> list[dict[str, Any]]:
    """Evaluate controllers on one stretch of one year.

    Args:
        evaluator: of the year.
        controllers: see `ladder_controllers`.
        window: the stretch.
        folder: where results are written, see `Evaluation.write`; nowhere if None.
        evaluate: how; for one that shows progress.
        say: is told of a controller that does not fit the site and is left out, in one line.

    Returns:
        The KPIs of each.
    """
    results = []
    for controller in controllers:
        try:
            result = evaluate(evaluator, controller, window)
        except UnsuitableError as error:
            say(f"{error}; it is left out")
            continue
        if folder is not None:
            result.write(folder)
        results.append(result.kpis)
    return results


def write_frontier(evaluator: Evaluator, window: WindowConfig, folder: Path) -> Path:
    """Write ``frontier.json``: the least grid import for a mean satisfaction, with perfect foresight.

    Raises:
        ValueError: nobody departs in the window, or the site's physics are not linear.
    """
    years = load_years([evaluator.schema])
    points = frontier(window_of(years, 0, window.start_step, window.step_count), FRONTIER_POINTS)
    value = {
        **evaluator.measured_on(window),
        "ev_satisfaction": [point.satisfaction for point in points],
        "grid_import_kwh": [point.grid_import_kwh for point in points],
    }
    path = folder / FRONTIER_FILE
    write_json(path, value)
    return path
