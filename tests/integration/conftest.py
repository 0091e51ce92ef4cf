"""The small site, and one Ray for the tests that train in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from iquitos_rl.config import RunConfig, load_run
from iquitos_rl.training import TrainingOutcome, train
from tests.training.small_run import small_dataset, small_ray, write_run

__all__ = ["Trained", "small_dataset", "small_ray", "trained"]


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
