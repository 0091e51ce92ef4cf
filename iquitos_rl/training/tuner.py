"""A run from its configuration to its results: data, one Tune experiment, evaluation, comparison."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, ResultGrid, TuneConfig, Tuner
from rich.console import Console

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.config import RunConfig
from iquitos_rl.env import ENV_ID
from iquitos_rl.evaluation.compare import compare, comparison_table, write_comparison
from iquitos_rl.site import Dataset, DatasetError, build_dataset, load_dataset
from iquitos_rl.training.agents import evaluate_agents
from iquitos_rl.training.cluster import Connection, connect, trial_resources
from iquitos_rl.training.interrupt import GracefulStop, stop_gracefully_on_signals
from iquitos_rl.training.outputs import AgentOutcome, read_manifest, write_manifest, write_summary
from iquitos_rl.training.progress import ProgressTable, format_duration
from iquitos_rl.training.session import PausingScheduler, SessionCallback, session
from iquitos_rl.training.trainable import CHECKPOINT_FILE, SiteTrainable, TrialTask, training_env_config

__all__ = ["ExperimentError", "TrainingOutcome", "restore", "train"]

MAX_FAILURES = 2
"""How often a trial is started again from its last checkpoint before it counts as failed."""


class ExperimentError(ValueError):
    """An experiment that cannot be started or gone on with; the text says why and what to do."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run left behind.

    Attributes:
        experiment: Tune's folder.
        outputs: folder of the results.
        agents: how each agent ended.
        comparison: one mapping per controller, see `iquitos_rl.evaluation.compare`; empty if interrupted.
        summary: as in ``summary.json``; empty if interrupted.
    """

    experiment: Path
    outputs: Path
    agents: tuple[AgentOutcome, ...]
    comparison: tuple[dict[str, Any], ...]
    summary: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether every agent reached its budget."""
        return all(agent.status == "finished" for agent in self.agents)


def train(
    run: RunConfig,
    *,
    address: str = "local",
    resume: bool = False,
    eval_only: bool = False,
    dashboard: bool = True,
    num_cpus: int | None = None,
    console: Console | None = None,
    silent: bool = False,
) -> TrainingOutcome:
    """Train the agents of a run side by side, evaluate them, and write everything down.

    Args:
        run: the configuration.
        address: of the Ray cluster, see `iquitos_rl.training.cluster.connect`.
        resume: go on with the experiment of this name if there is one, else start it.
        eval_only: only evaluate the newest checkpoints of an experiment.
        dashboard: whether a local Ray should have one.
        num_cpus: of a local Ray; all of the machine's if None.
        console: where messages and the live table go; standard error if None.
        silent: say nothing.

    Raises:
        ExperimentError: the experiment exists already, or differs from the one to go on with.
        DatasetError: the dataset is of another site or seed, or damaged.
        ResourceError: the cluster cannot place the trials.
        ValueError: settings that contradict each other.
    """
    console = console or Console(stderr=True, quiet=silent)
    started = time.monotonic()
    experiment = Path(run.storage_path).resolve() / run.name
    exists = (experiment / "tuner.pkl").is_file()
    _check_experiment(run, experiment, exists=exists, go_on=resume or eval_only, eval_only=eval_only)
    _check_settings(run)
    dataset = _provide_dataset(run, console)
    if exists and not eval_only:
        _check_same_data(experiment, dataset)
    if eval_only:
        outcomes = [_outcome_on_disk(experiment, name, run) for name in run.algorithms.names]
    else:
        stop = GracefulStop(lambda: console.print(_STOPPING, highlight=False))
        budgets = {name: run.budget_env_steps(name) for name in run.algorithms.names}
        progress = ProgressTable(budgets, console, silent=silent)
        with connect(address, dashboard=dashboard, num_cpus=num_cpus) as connection:
            if connection.dashboard_url:
                console.print(f"Ray dashboard: {connection.dashboard_url}", highlight=False)
            with stop_gracefully_on_signals(stop), session(stop, progress):
                grid = _run_tune(run, dataset, experiment, connection, exists=exists)
                progress.close()
        outcomes = [_outcome(grid[number], run) for number in range(len(grid))]
        outcomes.sort(key=lambda outcome: run.algorithms.names.index(outcome.algorithm))
        _report_failures(outcomes, console)
        if stop.requested and not all(outcome.status == "finished" for outcome in outcomes):
            return TrainingOutcome(experiment, Path(run.output_path), tuple(outcomes), (), {})
    training_seconds = time.monotonic() - started
    return _evaluate_and_write(run, dataset, experiment, outcomes, console, training_seconds)


_STOPPING = (
    "Stopping: every agent finishes its iteration and saves a checkpoint. Press Ctrl-C again to stop at once."
)


def restore(experiment: str | Path, **options: Any) -> TrainingOutcome:
    """Go on with an experiment from its folder alone; options as for `train`.

    Raises:
        ExperimentError: the folder is not an experiment.
    """
    folder = Path(experiment).resolve()
    try:
        run = read_manifest(folder).config
    except ValueError as error:
        raise ExperimentError(str(error)) from None
    run = run.model_copy(update={"storage_path": str(folder.parent), "name": folder.name})
    return train(run, resume=True, **options)


def _check_experiment(
    run: RunConfig, experiment: Path, *, exists: bool, go_on: bool, eval_only: bool
) -> None:
    if exists and not go_on:
        raise ExperimentError(
            f"{experiment}: this experiment exists already; go on with it: --resume, evaluate it: "
            "--eval-only, or start another: --set name=NEW_NAME"
        )
    if not exists:
        if eval_only:
            raise ExperimentError(f"{experiment}: no experiment here to evaluate; train it first")
        return
    try:
        begun = read_manifest(experiment).config
    except ValueError as error:
        raise ExperimentError(str(error)) from None
    differences = _differences(begun.model_dump(mode="json"), run.model_dump(mode="json"))
    # Where things lie, and what is evaluated after training, may change.
    free = ("storage_path", "output_path", "name", "description", "evaluation", "dataset.path")
    differences = [d for d in differences if not d.startswith(free)]
    if differences:
        raise ExperimentError(
            f"{experiment}: began with other settings: {'; '.join(differences[:5])}"
            f"{' and more' if len(differences) > 5 else ''}; use those, or start another: --set name=NEW_NAME"
        )


def _check_same_data(experiment: Path, dataset: Dataset) -> None:
    begun = read_manifest(experiment).dataset_fingerprint
    if dataset.fingerprint != begun:
        raise ExperimentError(
            f"{experiment}: began with other data: fingerprint {begun[:12]} then, {dataset.fingerprint[:12]} "
            f"in {dataset.path} now; use the dataset it began with, or start another: --set name=NEW_NAME"
        )


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in dict.fromkeys([*old, *new]):
            found += _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if old == new else [f"{key} {json.dumps(old)} then, {json.dumps(new)} now"]


def _check_settings(run: RunConfig) -> None:
    """Let RLlib see each algorithm's settings, so that what it refuses is refused before anything starts."""
    resources = run.resources
    for name in run.algorithms.names:
        try:
            build_algorithm_config(
                getattr(run.algorithms, name),
                env=ENV_ID,
                env_config={},
                num_envs=resources.envs_per_runner,
                num_env_runners=resources.env_runners,
                env_steps=run.budget_env_steps(name),
            )
        except ValueError as error:
            raise ValueError(f"algorithms.{name}: {error}") from None


def _provide_dataset(run: RunConfig, console: Console) -> Dataset:
    """The run's dataset, built if it is not there. Raises DatasetError if another one is."""
    path = Path(run.dataset_path)
    if not path.exists():
        console.print(f"Building the dataset of {run.site.name} in {path}", highlight=False)
    elif (dataset := load_dataset(path)) and (dataset.site, dataset.seed) != (run.site, run.dataset.seed):
        raise DatasetError(
            f"{path}: made from another site file or seed ({dataset.site.name}, seed {dataset.seed}); choose "
            "another folder with --set dataset.path=DIR, or build it again: iquitos-rl dataset build --force"
        )
    else:
        return dataset
    return build_dataset(run.site, path, run.dataset.seed, table_format=run.dataset.table_format)


def _run_tune(
    run: RunConfig, dataset: Dataset, experiment: Path, connection: Connection, *, exists: bool
) -> ResultGrid:
    # Tune's own tables and warnings would fight with the live table.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    names = run.algorithms.names
    reserved = trial_resources(run.resources, len(names), connection)
    task = TrialTask(run.model_dump_json(), str(dataset.path.resolve()), dataset.fingerprint)
    trainable = tune.with_resources(tune.with_parameters(SiteTrainable, task=task), reserved)
    if exists:
        tuner = Tuner.restore(str(experiment), trainable, resume_unfinished=True, resume_errored=True)
        return tuner.fit()
    training_env_config(run, dataset)  # fails here, not in the trials, if the data does not fit the run
    write_manifest(experiment, run, dataset, {"per_trial": reserved.bundles, "cpus": connection.cpus})
    tuner = Tuner(
        trainable,
        param_space={"algorithm": tune.grid_search(list(names))},
        tune_config=TuneConfig(
            metric="validation_score",
            mode="min",
            scheduler=PausingScheduler(),
            trial_name_creator=lambda trial: f"{trial.config['algorithm']}_{trial.trial_id}",
            trial_dirname_creator=lambda trial: f"{trial.config['algorithm']}_{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=run.name,
            storage_path=str(experiment.parent),
            callbacks=[SessionCallback()],
            checkpoint_config=CheckpointConfig(num_to_keep=run.checkpoint.keep),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            verbose=0,
        ),
    )
    return tuner.fit()


def _outcome(trial: tune.Result, run: RunConfig) -> AgentOutcome:
    metrics = trial.metrics or {}
    algorithm = trial.config["algorithm"] if trial.config else "unknown"
    budget = run.budget_env_steps(algorithm)
    steps = int(metrics.get("env_steps", 0))
    error = None
    if trial.error is not None:
        error = str(trial.error).strip().splitlines()[-1]
    status = "failed" if error else ("finished" if steps >= budget else "stopped")
    return AgentOutcome(
        algorithm=algorithm,
        status=status,
        env_steps=steps,
        budget=budget,
        training_seconds=round(float(metrics.get("time_total_s", 0.0)), 1),
        checkpoint=trial.checkpoint.path if trial.checkpoint else None,
        trial=trial.path,
        error=error,
    )


def _outcome_on_disk(experiment: Path, algorithm: str, run: RunConfig) -> AgentOutcome:
    """An agent of an earlier session, by its newest checkpoint. Raises ExperimentError if it has none."""
    # Without its description a checkpoint was being written when a process was killed.
    descriptions = sorted(experiment.glob(f"{algorithm}_*/checkpoint_*/{CHECKPOINT_FILE}"))
    if not descriptions:
        raise ExperimentError(f"{experiment}: {algorithm} has no checkpoint yet; go on with --resume")
    newest = descriptions[-1].parent
    steps = int(json.loads(descriptions[-1].read_text(encoding="utf-8"))["env_steps"])
    seconds = _training_seconds(newest.parent / "result.json")
    budget = run.budget_env_steps(algorithm)
    return AgentOutcome(
        algorithm=algorithm,
        status="finished" if steps >= budget else "stopped",
        env_steps=steps,
        budget=budget,
        training_seconds=round(seconds, 1),
        checkpoint=str(newest),
        trial=str(newest.parent),
    )


def _training_seconds(results: Path) -> float:
    """Of the last whole line of a trial's results."""
    for line in reversed(results.read_text(encoding="utf-8").splitlines()):
        try:
            return float(json.loads(line).get("time_total_s", 0.0))
        except ValueError:  # cut off when a process was killed
            continue
    return 0.0


def _report_failures(outcomes: Sequence[AgentOutcome], console: Console) -> None:
    for outcome in outcomes:
        if outcome.error:
            console.print(
                f"{outcome.algorithm} failed: {outcome.error} (all of it: {outcome.trial}/error.txt)",
                highlight=False,
                soft_wrap=True,
            )


def _evaluate_and_write(
    run: RunConfig,
    dataset: Dataset,
    experiment: Path,
    outcomes: Sequence[AgentOutcome],
    console: Console,
    training_seconds: float,
) -> TrainingOutcome:
    outputs = Path(run.output_path) / run.name
    started = time.monotonic()
    results = evaluate_agents(run, dataset, outcomes, outputs, console)
    rows = compare(results)
    write_comparison(rows, outputs)
    seconds = {"training": training_seconds, "evaluation": time.monotonic() - started}
    summary = write_summary(outputs, run, outcomes, results, seconds)
    console.print(
        f"Training {format_duration(training_seconds)}, evaluation {format_duration(seconds['evaluation'])}. "
        f"Results in {outputs}, checkpoints in {experiment}",
        highlight=False,
        soft_wrap=True,
    )
    return TrainingOutcome(experiment, outputs, tuple(outcomes), tuple(rows), summary)


def results_table(outcome: TrainingOutcome, run: RunConfig) -> Any:
    """The comparison of a finished run, as a table for the console."""
    return comparison_table(outcome.comparison, demonstration=run.demonstration)
