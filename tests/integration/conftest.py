"""The small site, and one Ray for the tests that train in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter
from ray import tune
from ray.train._internal.storage import StorageContext

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.config import RunConfig, load_run
from iquitos_rl.config.algorithm import AlgorithmSettings
from iquitos_rl.env import ENV_ID, register
from iquitos_rl.site import Dataset, load_dataset
from iquitos_rl.training import TrainingOutcome, train
from iquitos_rl.training.trainable import SiteTrainable, TrialTask
from tests.training.small_run import ROOT, small_dataset, small_ray, write_run

__all__ = [
    "ALGORITHMS",
    "LADDER",
    "Trained",
    "built",
    "checkpoints",
    "site_algorithm",
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


def site_algorithm(dataset: Dataset, algorithm: str, changes: dict[str, Any], **spread: Any) -> Any:
    """RLlib's configuration of a shipped algorithm with small settings, on days of the small site."""
    text = (ROOT / f"ray_configs/algorithms/{algorithm}.yaml").read_text(encoding="utf-8")
    settings = TypeAdapter(AlgorithmSettings).validate_python(
        yaml.safe_load(text) | {"hidden": [16]} | changes, strict=False
    )
    register()
    return build_algorithm_config(
        settings,
        env=ENV_ID,
        env_config={
            "schema": str(dataset.schema_path("train", 0)),
            "episode_steps": 24,
            "random_start": "day",
        },
        num_cpus_per_env_runner=0.25,
        seed=1,
        vectorize_mode="vector_entry_point",
        **spread,
    )


@contextmanager
def built(config: Any) -> Iterator[Any]:
    """The algorithm of a configuration, stopped at the end."""
    algorithm = config.build_algo()
    try:
        yield algorithm
    finally:
        algorithm.stop()
