"""The agents of a run on a year they have not seen, beside what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from iquitos_rl.config import RunConfig, WindowConfig
from iquitos_rl.control import ORACLE, Controller, load_controller
from iquitos_rl.evaluation import Evaluation, Evaluator
from iquitos_rl.evaluation.ladder import evaluate_ladder, ladder_controllers, write_frontier
from iquitos_rl.files import replace_file
from iquitos_rl.site import Dataset
from iquitos_rl.training.outputs import AgentOutcome

__all__ = ["evaluate_agents", "evaluate_with_progress"]

LEARNING_COLUMNS = ("env_steps", "validation_score", "validation_satisfaction")


def evaluate_with_progress(
    evaluator: Evaluator, controller: Controller, window: WindowConfig, console: Console
) -> Evaluation:
    """Evaluate one controller, with a bar where the console is a terminal and a line where it is not."""
    if not console.is_terminal:
        console.print(f"Evaluating {controller.name}", highlight=False)
        return evaluator.evaluate(controller, window)
    columns = (TextColumn("Evaluating {task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(controller.name, total=None)
        return evaluator.evaluate(
            controller, window, lambda done, total: bar.update(task, completed=done, total=total)
        )


def evaluate_agents(
    run: RunConfig, dataset: Dataset, outcomes: Sequence[AgentOutcome], outputs: Path, console: Console
) -> list[dict[str, Any]]:
    """Evaluate what the agents are compared with, then each agent that has a checkpoint; write every result.

    Returns:
        The KPIs of each, those of agents with their training and validation.
    """
    evaluation = run.evaluation
    evaluator = Evaluator(
        dataset,
        split=evaluation.split,
        year=evaluation.year,
        engine=evaluation.engine,
        weights=run.reward,
    )

    def show(judge: Evaluator, controller: Controller, window: WindowConfig) -> Evaluation:
        return evaluate_with_progress(judge, controller, window, console)

    ladder = ladder_controllers(evaluation.controllers)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    results = evaluate_ladder(evaluator, ladder, evaluation.window, outputs, show, say)
    if any(result["controller"] == ORACLE for result in results) and results[0]["ev_departures"]:
        console.print("Finding the least import for each satisfaction", highlight=False)
        write_frontier(evaluator, evaluation.window, outputs)
    for outcome in outcomes:
        if outcome.checkpoint is None:
            console.print(f"{outcome.algorithm} has no checkpoint and is not evaluated", highlight=False)
            continue
        controller = load_controller(outcome.checkpoint)
        more = {
            "demonstration": run.demonstration,
            "minimum_satisfaction": run.validation.minimum_satisfaction,
            "training": asdict(outcome),
        }
        result = show(evaluator, controller, evaluation.window)
        result.write(outputs, **more)
        _write_learning_curve(outcome, outputs)
        results.append(result.kpis | more)
    return results


def _write_learning_curve(outcome: AgentOutcome, outputs: Path) -> None:
    """Write ``learning_<algorithm>.parquet``: the trial's validations, as Tune has noted them."""
    progress = Path(outcome.trial) / "progress.csv"
    if not progress.is_file():  # a trial on other storage, or one whose folder was cleaned up
        return
    noted = pd.read_csv(progress, usecols=list(LEARNING_COLUMNS))
    # A restored trial repeats rows; between validations the last one stands in every row.
    curve = noted.drop_duplicates("env_steps", keep="last").dropna().sort_values("env_steps")
    changed = curve[list(LEARNING_COLUMNS[1:])].diff().fillna(1.0).ne(0.0).any(axis=1)
    path = outputs / f"learning_{outcome.algorithm}.parquet"
    replace_file(path, partial(curve[changed].to_parquet, index=False))
