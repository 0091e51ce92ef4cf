"""A run from its configuration to its results: data, one Tune experiment, evaluation, comparison."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, PlacementGroupFactory, ResultGrid, TuneConfig, Tuner
from rich.console import Console

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.config import RunConfig
from iquitos_rl.control import ControllerError
from iquitos_rl.env import ENV_ID
from iquitos_rl.evaluation.ladder import ladder_controllers
from iquitos_rl.evaluation.publish import publish
from iquitos_rl.site import Dataset, DatasetError, build_dataset, load_dataset
from iquitos_rl.tables import format_duration
from iquitos_rl.training.agents import evaluate_agents
from iquitos_rl.training.cluster import connect, learner_threads, trial_resources
from iquitos_rl.training.experiment import (
    ExperimentError,
    check_experiment,
    check_same_data,
    check_tune_files,
    outcome_of_trial,
    outcome_on_disk,
)
from iquitos_rl.training.interrupt import GracefulStop, stop_gracefully_on_signals
from iquitos_rl.training.outputs import (
    MANIFEST_FILE,
    AgentOutcome,
    read_manifest,
    write_manifest,
    write_summary,
)
from iquitos_rl.training.progress import ProgressTable
from iquitos_rl.training.session import PausingScheduler, SessionCallback, session
from iquitos_rl.training.trainable import SiteTrainable, TrialTask, training_env_config

__all__ = ["EvaluationError", "TrainingOutcome", "check_algorithm", "restore", "train"]

MAX_FAILURES = 2
"""How often a trial is started again from its last checkpoint before it counts as failed."""
STOPPING = (
    "Stopping: every agent finishes its iteration and saves a checkpoint. Press Ctrl-C again to stop at once."
)


class EvaluationError(RuntimeError):
    """Training is done and saved, but its evaluation failed; the text says why and how to repeat it."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run left behind.

    Attributes:
        experiment: Tune's folder.
        outputs: folder of the results.
        agents: how each agent ended.
        comparison: one mapping per controller, see `iquitos_rl.evaluation.compare`; empty if interrupted.
        summary: as in ``summary.json``.
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
        EvaluationError: training is done, its evaluation failed.
    """
    console = console or Console(stderr=True, quiet=silent)
    run = _with_absolute_paths(run)
    experiment = Path(run.storage_path) / run.name
    exists = (experiment / MANIFEST_FILE).is_file() or (experiment / "tuner.pkl").is_file()
    check_experiment(run, experiment, exists=exists, go_on=resume or eval_only, eval_only=eval_only)
    _check_settings(run)
    if eval_only:
        outcomes = [outcome_on_disk(experiment, name, run) for name in run.algorithms.names]
        if not any(outcome.checkpoint for outcome in outcomes):
            raise ExperimentError(f"{experiment}: no agent has a checkpoint yet; go on with --resume")
        return _evaluate_and_write(run, _provide_dataset(run, console), experiment, outcomes, console)
    if exists:
        check_tune_files(experiment)
    stop = GracefulStop(lambda: console.print(STOPPING, highlight=False, soft_wrap=True))
    budgets = {name: run.budget_env_steps(name) for name in run.algorithms.names}
    progress = ProgressTable(budgets, console, silent=silent)
    with connect(address, dashboard=dashboard, num_cpus=num_cpus) as connection:
        reserved = trial_resources(run.resources, len(budgets), connection)
        dataset = _provide_dataset(run, console)
        if exists:
            check_same_data(experiment, dataset)
        else:
            training_env_config(run, dataset)  # fails here, not in the trials, if the data does not fit
            write_manifest(experiment, run, dataset, {"per_trial": reserved.bundles, "cpus": connection.cpus})
        if connection.dashboard_url:
            console.print(f"Ray dashboard: {connection.dashboard_url}", highlight=False)
        with stop_gracefully_on_signals(stop), session(stop, progress):
            grid = _run_tune(run, dataset, experiment, reserved, exists=exists)
            progress.close()
    outcomes = [outcome_of_trial(grid[number], run) for number in range(len(grid))]
    outcomes.sort(key=lambda outcome: run.algorithms.names.index(outcome.algorithm))
    _report_failures(outcomes, console)
    if stop.requested and not all(outcome.status == "finished" for outcome in outcomes):
        outputs = Path(run.output_path) / run.name
        summary = write_summary(outputs, run, outcomes, [], 0.0)
        return TrainingOutcome(experiment, outputs, tuple(outcomes), (), summary)
    return _evaluate_and_write(run, dataset, experiment, outcomes, console)


def restore(experiment: str | Path, **options: Any) -> TrainingOutcome:
    """Go on with an experiment from its folder alone, wherever it was moved; options as for `train`.

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


def _with_absolute_paths(run: RunConfig) -> RunConfig:
    """Ray's workers run in other folders, and a restore may come from another one."""
    dataset = run.dataset.model_copy(update={"path": str(Path(run.dataset_path).resolve())})
    paths = {key: str(Path(getattr(run, key)).resolve()) for key in ("storage_path", "output_path")}
    return run.model_copy(update={"dataset": dataset, **paths})


def _check_settings(run: RunConfig) -> None:
    """Refuse counts that an algorithm cannot use, and controllers there are none, before anything starts."""
    try:
        ladder_controllers(run.evaluation.controllers)
    except ControllerError as error:
        raise ValueError(f"evaluation.controllers: {error}") from None
    for name in run.algorithms.names:
        check_algorithm(run, name)


def check_algorithm(run: RunConfig, name: str) -> None:
    """Refuse counts of environments and runners that an algorithm cannot use. Raises ValueError."""
    try:
        build_algorithm_config(
            getattr(run.algorithms, name),
            env=ENV_ID,
            env_config={},
            num_envs=run.resources.envs_per_runner,
            num_env_runners=run.resources.env_runners,
            env_steps=run.budget_env_steps(name),
        )
    except ValueError as error:
        raise ValueError(f"algorithms.{name}: {error}") from None


def _provide_dataset(run: RunConfig, console: Console) -> Dataset:
    """The run's dataset, built if it is not there. Raises DatasetError if another one is."""
    path = Path(run.dataset_path)
    if not path.exists():
        console.print(f"Building the dataset of {run.site.name} in {path}", highlight=False, soft_wrap=True)
    elif (dataset := load_dataset(path)) and (dataset.site, dataset.seed) != (run.site, run.dataset.seed):
        raise DatasetError(
            f"{path}: made from another site file or seed ({dataset.site.name}, seed {dataset.seed}); choose "
            "another folder with --set dataset.path=DIR, or build it again: iquitos-rl dataset build --force"
        )
    else:
        dataset.check_files()
        return dataset
    return build_dataset(run.site, path, run.dataset.seed, table_format=run.dataset.table_format)


def _run_tune(
    run: RunConfig, dataset: Dataset, experiment: Path, reserved: PlacementGroupFactory, *, exists: bool
) -> ResultGrid:
    # Tune's own tables and warnings would fight with the live table.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    task = TrialTask(
        run=run.model_dump_json(),
        dataset_path=str(dataset.path),
        fingerprint=dataset.fingerprint,
        cpus_per_env_runner=reserved.bundles[-1]["CPU"],
        threads=learner_threads(reserved),
    )
    trainable = tune.with_resources(tune.with_parameters(SiteTrainable, task=task), reserved)
    if exists:
        tuner = Tuner.restore(str(experiment), trainable, resume_unfinished=True, resume_errored=True)
        return tuner.fit()
    tuner = Tuner(
        trainable,
        param_space={"algorithm": tune.grid_search(list(run.algorithms.names))},
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


def _report_failures(outcomes: Sequence[AgentOutcome], console: Console) -> None:
    for outcome in outcomes:
        if outcome.error:
            console.print(
                f"{outcome.algorithm} failed: {outcome.error} (see {outcome.trial})",
                highlight=False,
                soft_wrap=True,
            )


def _evaluate_and_write(
    run: RunConfig,
    dataset: Dataset,
    experiment: Path,
    outcomes: Sequence[AgentOutcome],
    console: Console,
) -> TrainingOutcome:
    """Evaluate the agents; the summary is written before, lest a failure lose how training ended."""
    outputs = Path(run.output_path) / run.name
    write_summary(outputs, run, outcomes, [], 0.0)
    started = time.monotonic()
    try:
        results = evaluate_agents(run, dataset, outcomes, outputs, console)
        summary = write_summary(outputs, run, outcomes, results, time.monotonic() - started)
        published = publish([outputs])
    except (ValueError, RuntimeError) as error:
        raise EvaluationError(
            f"training is saved in {experiment}, but its evaluation failed: {error}; "
            "repeat it with --eval-only"
        ) from error
    seconds = {outcome.algorithm: outcome.training_seconds for outcome in outcomes}
    trained = ", ".join(f"{name} {format_duration(value)}" for name, value in seconds.items())
    console.print(f"Training: {trained}", highlight=False, soft_wrap=True)
    console.print(f"Results in {outputs}, checkpoints in {experiment}", highlight=False, soft_wrap=True)
    console.print(f"Report: {published.report}", highlight=False, soft_wrap=True)
    return TrainingOutcome(experiment, outputs, tuple(outcomes), tuple(published.rows), summary)
