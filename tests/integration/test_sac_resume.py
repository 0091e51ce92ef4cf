"""SAC on the batch engine: a run that was interrupted ends where the uninterrupted one does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter
from ray.rllib.core import DEFAULT_MODULE_ID

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.config.algorithm import AlgorithmSettings
from iquitos_rl.env import ENV_ID, register
from iquitos_rl.site import Dataset
from tests.training.small_run import RLLIB_WARNING, ROOT

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings(RLLIB_WARNING)]


@contextmanager
def _built(dataset: Dataset, runners: int) -> Iterator[Any]:
    text = (ROOT / "ray_configs/algorithms/sac.yaml").read_text(encoding="utf-8")
    changes = {"hidden": [16], "warmup_steps": 40, "batch_size": 32, "steps_per_iteration": 60}
    changes["buffer_size"] = 100  # so that it has wrapped around
    settings = TypeAdapter(AlgorithmSettings).validate_python(yaml.safe_load(text) | changes, strict=False)
    register()
    config = build_algorithm_config(
        settings,
        env=ENV_ID,
        env_config={
            "schema": str(dataset.schema_path("train", 0)),
            "episode_steps": 24,
            "random_start": "day",
        },
        num_envs=2,
        num_env_runners=runners,
        num_cpus_per_env_runner=0.25,
        seed=1,
        vectorize_mode="vector_entry_point",
    )
    algorithm = config.env_runners(sample_timeout_s=10).build_algo()
    try:
        yield algorithm
    finally:
        algorithm.stop()


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
    with _built(small_dataset, runners) as algorithm:
        for _ in range(2):
            algorithm.train()
        algorithm.save_to_path(tmp_path)
        for _ in range(2):
            result = algorithm.train()
        expected = _state(algorithm)
    assert expected["steps"] == result["num_env_steps_sampled_lifetime"] >= 240
    assert expected["updates"] == expected["steps"] - 40

    with _built(small_dataset, runners) as restored:
        restored.restore_from_path(tmp_path.as_posix())
        for _ in range(2):
            restored.train()
        _assert_same(_state(restored), expected)


@pytest.mark.slow
def test_a_killed_runner_changes_nothing(small_ray: None, small_dataset: Dataset) -> None:
    with _built(small_dataset, 2) as algorithm:
        for _ in range(3):
            algorithm.train()
        expected = _state(algorithm)
    with _built(small_dataset, 2) as algorithm:
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
