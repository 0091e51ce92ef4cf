"""An experiment on disk: whether one can go on with it, and how far its agents are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray import tune

from iquitos_rl.config import RunConfig
from iquitos_rl.site import Dataset
from iquitos_rl.training.outputs import FAILURE, AgentOutcome, read_manifest
from iquitos_rl.training.trainable import CHECKPOINT_FILE

__all__ = [
    "ExperimentError",
    "check_experiment",
    "check_same_data",
    "check_tune_files",
    "differences",
    "outcome_of_trial",
    "outcome_on_disk",
]

FREE_TO_CHANGE = ("storage_path", "output_path", "name", "description", "evaluation", "dataset.path")
"""Where things lie, and what is evaluated after training, may differ from the start of an experiment."""


class ExperimentError(ValueError):
    """An experiment that cannot be started or gone on with; the text says why and what to do."""


def check_experiment(run: RunConfig, experiment: Path, *, exists: bool, go_on: bool, eval_only: bool) -> None:
    """Refuse to overwrite an experiment, or to go on with one that began with other settings.

    Raises:
        ExperimentError: with the difference, and what to do.
    """
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
    old, new = begun.model_dump(mode="json"), run.model_dump(mode="json")
    if eval_only:  # some of its agents may be evaluated
        old["algorithms"] = {name: old["algorithms"].get(name) for name in run.algorithms.names}
        new["algorithms"] = {name: new["algorithms"][name] for name in run.algorithms.names}
    found = [line for line in differences(old, new) if not line.startswith(FREE_TO_CHANGE)]
    if found:
        raise ExperimentError(
            f"{experiment}: began with other settings: {'; '.join(found[:5])}"
            f"{' and more' if len(found) > 5 else ''}; use those, or start another: --set name=NEW_NAME"
        )


def check_tune_files(experiment: Path) -> None:
    """Refuse to go on where Tune's own files are missing; Ray would start and then fail.

    Raises:
        ExperimentError: with what can be done instead.
    """
    if not (experiment / "tuner.pkl").is_file() or not any(experiment.glob("experiment_state-*.json")):
        raise ExperimentError(
            f"{experiment}: cannot go on, Tune's own files (tuner.pkl, experiment_state-*.json) are missing; "
            "evaluate what there is: --eval-only, or start another: --set name=NEW_NAME"
        )


def check_same_data(experiment: Path, dataset: Dataset) -> None:
    """Refuse to go on with other data than the experiment began with. Raises ExperimentError."""
    begun = read_manifest(experiment).dataset_fingerprint
    if dataset.fingerprint != begun:
        raise ExperimentError(
            f"{experiment}: began with other data: fingerprint {begun[:12]} then, {dataset.fingerprint[:12]} "
            f"in {dataset.path} now; use the dataset it began with, or start another: --set name=NEW_NAME"
        )


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Where two configurations differ, one text per key."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in dict.fromkeys([*old, *new]):
            found += differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if old == new else [f"{key} {_short(old)} then, {_short(new)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def outcome_of_trial(trial: tune.Result, run: RunConfig) -> AgentOutcome:
    """How a trial of Tune's ended."""
    metrics = trial.metrics or {}
    algorithm = Path(trial.path).name.partition("_")[0]  # Tune knows no config of one that failed at once
    budget = run.budget_env_steps(algorithm)
    steps = int(metrics.get("env_steps", 0))
    error = None
    checkpoint = trial.checkpoint.path if trial.checkpoint else None
    if trial.error is not None:
        error = str(trial.error).strip().splitlines()[-1]
    elif metrics.get(FAILURE):
        error = metrics[FAILURE]
    elif checkpoint is not None and not Path(checkpoint).is_dir():
        error, checkpoint = f"its checkpoint {checkpoint} is gone", None
    status = "failed" if error else ("finished" if steps >= budget else "stopped")
    return AgentOutcome(
        algorithm=algorithm,
        status=status,
        env_steps=steps,
        budget=budget,
        training_seconds=round(float(metrics.get("time_total_s", 0.0)), 1),
        checkpoint=checkpoint,
        trial=trial.path,
        error=error,
    )


def outcome_on_disk(experiment: Path, algorithm: str, run: RunConfig) -> AgentOutcome:
    """How far an agent of an earlier session is, by its newest checkpoint."""
    budget = run.budget_env_steps(algorithm)
    # Without its description a checkpoint was being written when a process was killed.
    descriptions = sorted(experiment.glob(f"{algorithm}_*/checkpoint_*/{CHECKPOINT_FILE}"))
    if not descriptions:
        return AgentOutcome(algorithm, "stopped", 0, budget, 0.0, None, str(experiment))
    newest = descriptions[-1].parent
    steps = int(json.loads(descriptions[-1].read_text(encoding="utf-8"))["env_steps"])
    return AgentOutcome(
        algorithm=algorithm,
        status="finished" if steps >= budget else "stopped",
        env_steps=steps,
        budget=budget,
        training_seconds=round(_training_seconds(newest.parent / "result.json"), 1),
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
