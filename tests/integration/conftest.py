"""The small site, and one Ray for the tests that train in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.train._internal.storage import StorageContext

from iquitos_rl.config import RunConfig, load_run
from iquitos_rl.site import load_dataset
from iquitos_rl.training import TrainingOutcome, train
from iquitos_rl.training.trainable import SiteTrainable, TrialTask
from tests.training.small_run import small_dataset, small_ray, write_run

__all__ = [
    "ALGORITHMS",
    "LADDER",
    "Trained",
    "checkpoints",
    "small_dataset",
    "small_ray",
    "trainable",
    "trained",
]

LADDER = ("no_control", "plug_and_charge", "laxity_first", "best_rule", "oracle")
ALGORITHMS = ("a2c", "sac", "ppo")


@dataclass(frozen=True)
class Trained:
    """One run of all three algorithms, trained once for all tests; none may change it."""

    folder: Path
    run: RunConfig
    outcome: TrainingOutcome

    def trial(self, algorithm: str) -> Path:
        """Folder of an algorithm's trial."""
        return next(Path(agent.trial) for agent in self.outcome.agents if agent.algorithm == algorithm)


@pytest.fixture(scope="session")
def trained(small_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    run = load_run(write_run(folder))
    return Trained(folder, run, train(run, silent=True))


def checkpoints(trial: Path) -> list[Path]:
    return sorted(trial.glob("checkpoint_*"))


def trainable(trained: Trained, algorithm: str, folder: Path) -> SiteTrainable:
    """A trial of the run in this process, as Tune would make it in an actor."""
    dataset = load_dataset(trained.run.dataset_path)
    task = TrialTask(trained.run.model_dump_json(), str(dataset.path), dataset.fingerprint)
    storage = StorageContext(str(folder), experiment_dir_name="here", trial_dir_name=algorithm)
    bound: Any = tune.with_parameters(SiteTrainable, task=task)
    trial: SiteTrainable = bound({"algorithm": algorithm}, storage=storage)
    return trial
