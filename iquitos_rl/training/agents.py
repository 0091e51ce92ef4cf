"""The agents of a run on a year they have not seen, beside what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from iquitos_rl.config import RunConfig, WindowConfig
from iquitos_rl.control import Controller, TrainedPolicy, load_controller
from iquitos_rl.evaluation import Evaluation, Evaluator
from iquitos_rl.site import Dataset
from iquitos_rl.training.outputs import AgentOutcome

__all__ = ["evaluate_agents", "evaluate_with_progress"]


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
    results: list[dict[str, Any]] = []
    for name in evaluation.controllers:
        results.append(_evaluate(evaluator, load_controller(name), evaluation.window, outputs, console, {}))
    for outcome in outcomes:
        if outcome.checkpoint is None:
            console.print(f"{outcome.algorithm} has no checkpoint and is not evaluated", highlight=False)
            continue
        controller = load_controller(outcome.checkpoint)
        assert isinstance(controller, TrainedPolicy)
        origin = controller.policy.origin
        more = {
            "experiment": run.name,
            "demonstration": run.demonstration,
            "seed": run.seed,
            "training": asdict(outcome),
            "policy": str(controller.source),
            "policy_env_steps": origin.get("env_steps"),
            "validation": origin.get("validation"),
            "versions": origin.get("versions"),
        }
        results.append(_evaluate(evaluator, controller, evaluation.window, outputs, console, more))
    return results


def _evaluate(
    evaluator: Evaluator,
    controller: Controller,
    window: WindowConfig,
    outputs: Path,
    console: Console,
    more: dict[str, Any],
) -> dict[str, Any]:
    result = evaluate_with_progress(evaluator, controller, window, console)
    result.write(outputs, **more)
    return result.kpis | more
