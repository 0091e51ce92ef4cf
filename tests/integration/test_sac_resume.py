"""SAC on the batch engine: a run that was interrupted ends where the uninterrupted one does."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from iquitos_rl.site import Dataset
from tests.integration.conftest import built, site_algorithm
from tests.training.small_run import RLLIB_WARNING

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings(RLLIB_WARNING)]


def _algorithm(dataset: Dataset, runners: int) -> AbstractContextManager[Any]:
    changes = {"warmup_steps": 40, "batch_size": 32, "steps_per_iteration": 60}
    changes["buffer_size"] = 100  # so that it has wrapped around
    config = site_algorithm(dataset, "sac", changes, num_envs=2, num_env_runners=runners)
    return built(config.env_runners(sample_timeout_s=10))


def _state(algorithm: Any) -> dict[str, Any]:
    learner = algorithm.learner_group.get_state()["learner"]
    weights = {name: np.array(value) for name, value in learner["rl_module"][DEFAULT_MODULE_ID].items()}
    drawn = algorithm.local_replay_buffer.sample(500)
    counts = {"updates": learner["num_updates"], "steps": algorithm.local_replay_buffer.steps_added}
    return weights | vars(drawn) | learner["log_alpha"] | counts


@pytest.mark.parametrize("runners", [0, 2])
def test_a_restored_run_ends_where_the_uninterrupted_one_does(
    runners: int, small_ray: None, small_dataset: Dataset, tmp_path: Path
) -> None:
    with _algorithm(small_dataset, runners) as algorithm:
        for _ in range(2):
            algorithm.train()
        algorithm.save_to_path(tmp_path)
        for _ in range(2):
            result = algorithm.train()
        expected = _state(algorithm)
    assert expected["steps"] == result["num_env_steps_sampled_lifetime"] >= 240
    assert expected["updates"] == expected["steps"] - 40

    with _algorithm(small_dataset, runners) as restored:
        restored.restore_from_path(tmp_path.as_posix())
        for _ in range(2):
            restored.train()
        _assert_same(_state(restored), expected)


@pytest.mark.slow
def test_a_killed_runner_changes_nothing(small_ray: None, small_dataset: Dataset) -> None:
    with _algorithm(small_dataset, 2) as algorithm:
        for _ in range(3):
            algorithm.train()
        expected = _state(algorithm)
    with _algorithm(small_dataset, 2) as algorithm:
        algorithm.train()
        runners = algorithm.env_runner_group._worker_manager
        first = next(iter(runners.foreach_actor(lambda runner: os.getpid())))
        os.kill(first.get(), signal.SIGKILL)
        for _ in range(2):
            algorithm.train()
        _assert_same(_state(algorithm), expected)


def _assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
