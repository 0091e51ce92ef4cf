"""``iquitos-rl train`` and ``restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iquitos_rl.cli.options import (
    DEFAULT_RUN,
    Address,
    AsJson,
    Dashboard,
    EngineChoice,
    Overrides,
    err,
    out,
    print_json,
)
from iquitos_rl.config import ConfigError, load_run

__all__ = ["restore", "train"]


def train(
    run: Annotated[Path, typer.Option(help="YAML of the run.")] = DEFAULT_RUN,
    algo: Annotated[str | None, typer.Option(help="Only these, e.g. a2c,ppo.")] = None,
    address: Address = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    eval_only: Annotated[
        bool, typer.Option("--eval-only", help="Only evaluate the newest checkpoints.")
    ] = False,
    env_steps: Annotated[int | None, typer.Option(help="Environment steps of each agent.", min=1)] = None,
    episodes: Annotated[int | None, typer.Option(help="Budget in years of 8,759 steps.", min=1)] = None,
    engine: Annotated[
        EngineChoice | None, typer.Option("--engine", help="What simulates; the run's own if left out.")
    ] = None,
    dashboard: Dashboard = True,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train the agents of a run side by side, evaluate them on an unseen year, and compare them."""
    if env_steps is not None and episodes is not None:
        raise ConfigError("--env-steps and --episodes exclude each other")
    changes = list(overrides or ())
    if env_steps is not None:
        changes += ["stop.episodes=null", f"stop.env_steps={env_steps}"]
    if episodes is not None:
        changes += ["stop.env_steps=null", f"stop.episodes={episodes}"]
    if engine is not None:
        changes += [f"environment.engine={engine.value}", f"evaluation.engine={engine.value}"]
    algorithms = [name.strip() for name in algo.split(",")] if algo is not None else None
    config = load_run(run, changes, algorithms)
    from iquitos_rl.training import train as train_run

    outcome = train_run(
        config,
        address=address,
        resume=resume,
        eval_only=eval_only,
        dashboard=dashboard,
        console=err,
    )
    _report_training(outcome, config.demonstration, as_json, address)


def restore(
    experiment: Annotated[Path, typer.Argument(help="Folder of the experiment, e.g. runs/train_all.")],
    address: Address = "local",
    dashboard: Dashboard = True,
    as_json: AsJson = False,
) -> None:
    """Go on with an experiment from its folder: unfinished and failed agents train to their budgets."""
    from iquitos_rl.training import restore as restore_run
    from iquitos_rl.training.outputs import read_manifest

    outcome = restore_run(experiment, address=address, dashboard=dashboard, console=err)
    demonstration = read_manifest(experiment).config.demonstration
    _report_training(outcome, demonstration, as_json, address)


def _report_training(outcome: Any, demonstration: bool, as_json: bool, address: str) -> None:
    from iquitos_rl.evaluation.console import comparison_table

    if as_json:
        print_json(outcome.summary)
    elif outcome.comparison:
        out.print(comparison_table(outcome.comparison, demonstration=demonstration))
    if not outcome.finished:
        for agent in outcome.agents:
            steps = f"{agent.env_steps:,} of {agent.budget:,} environment steps"
            saved = f"last checkpoint {agent.checkpoint}" if agent.checkpoint else "no checkpoint yet"
            err.print(f"{agent.algorithm}: {agent.status}, {steps}, {saved}", highlight=False, soft_wrap=True)
        where = "" if address == "local" else f" --address {address}"
        err.print(
            f"Go on with: iquitos-rl restore {outcome.experiment}{where}", highlight=False, soft_wrap=True
        )
        raise typer.Exit(1)
