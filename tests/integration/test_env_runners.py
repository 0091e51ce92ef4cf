"""Env runners and learners on real Ray: what is killed, hangs or is shared changes nothing but the time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from iquitos_rl.algorithms.errors import NonFiniteActionError
from iquitos_rl.site import Dataset
from tests.integration.conftest import built, site_algorithm
from tests.training.small_run import RLLIB_WARNING

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings(RLLIB_WARNING)]

ITERATIONS = 4
STEPS = 256


def _config(dataset: Dataset, **spread: Any) -> Any:
    return site_algorithm(dataset, "ppo", {"n_steps": STEPS, "minibatch_size": 64}, num_envs=4, **spread)


def _weights(algorithm: Any) -> dict[str, np.ndarray]:
    state = algorithm.learner_group.get_state(components="learner/rl_module")
    return {name: np.array(value) for name, value in state["learner"]["rl_module"][DEFAULT_MODULE_ID].items()}


def _assert_same(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def _train(algorithm: Any, disturb: Callable[[int], None] = lambda iteration: None) -> list[dict[str, float]]:
    """What each iteration reports of its steps and episodes."""
    reported = []
    for iteration in range(ITERATIONS):
        disturb(iteration)
        result = algorithm.train()
        runners = result["env_runners"]
        names = ("num_env_steps_sampled", "num_env_steps_sampled_lifetime", "episode_return_mean")
        reported.append({name: float(runners[name]) for name in names})
    return reported


@pytest.fixture(scope="module")
def undisturbed(
    small_ray: None, small_dataset: Dataset
) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """Weights and reports of a training with two remote runners."""
    with built(_config(small_dataset, num_env_runners=2)) as algorithm:
        reported = _train(algorithm)
        return _weights(algorithm), reported


def test_steps_are_counted_over_all_runners(undisturbed: Any) -> None:
    _, reported = undisturbed
    assert [r["num_env_steps_sampled_lifetime"] for r in reported] == [
        pytest.approx(STEPS * (k + 1), abs=8 * (k + 1)) for k in range(ITERATIONS)
    ]


def test_killed_and_hung_runners_change_nothing_but_the_time(
    undisturbed: Any, small_dataset: Dataset
) -> None:
    """One is killed while it samples, the other between two rollouts, then one hangs for good."""
    config = _config(small_dataset, num_env_runners=2).env_runners(sample_timeout_s=10)
    with built(config) as algorithm:
        group = algorithm.env_runner_group

        def processes() -> list[int]:
            pids: list[int] = group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
            return pids

        before = processes()

        def disturb(iteration: int) -> None:
            if iteration == 1:
                threading.Timer(0.02, os.kill, (before[0], signal.SIGKILL)).start()
            if iteration == 2:
                os.kill(before[1], signal.SIGKILL)
            if iteration == 3:
                os.kill(processes()[0], signal.SIGSTOP)

        reported = _train(algorithm, disturb)
        assert not set(processes()).intersection(before)
        weights, expected = undisturbed
        assert reported == expected
        _assert_same(_weights(algorithm), weights)


def test_a_runner_that_cannot_be_started_again_is_stood_in_for(
    undisturbed: Any, small_dataset: Dataset
) -> None:
    config = _config(small_dataset, num_env_runners=2).fault_tolerance(
        restart_failed_env_runners=False, ignore_env_runner_failures=True, env_runner_health_probe_timeout_s=2
    )
    with built(config) as algorithm:
        group = algorithm.env_runner_group
        first, _ = group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
        reported = _train(algorithm, lambda k: os.kill(first, signal.SIGKILL) if k == 1 else None)
        assert group.num_healthy_remote_env_runners() == 1
        assert all(r["num_env_steps_sampled"] == pytest.approx(STEPS, abs=8) for r in reported)


def test_an_error_in_a_runner_arrives_with_its_reason(small_ray: None, small_dataset: Dataset) -> None:
    with built(_config(small_dataset, num_env_runners=1)) as algorithm:

        def spoil(runner: Any) -> None:
            with torch.no_grad():
                next(runner.module.pi.parameters()).fill_(float("nan"))

        algorithm.env_runner_group.foreach_env_runner(spoil, local_env_runner=False)
        with pytest.raises(NonFiniteActionError, match="env runner 1"):
            algorithm.train()


# Ray Data, which RLlib imports for remote learners, warns about its own settings.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
def test_two_learners_learn_what_one_learns(small_ray: None, small_dataset: Dataset) -> None:
    """One gradient step over a whole rollout: the mean of their gradients is the one learner's."""
    results: list[Any] = []
    fragments: list[Any] = []
    for learners in (0, 2):
        config = _config(small_dataset, num_learners=learners)
        config.learners(num_cpus_per_learner=0.25)
        # One-step advantages, because longer ones end where the rollout is cut in two.
        config.training(minibatch_size=None, num_epochs=1, normalize_advantage=False, lambda_=0.0)
        with built(config) as algorithm:
            before = _weights(algorithm)
            fragments = fragments or algorithm.sample_fragments(STEPS)
            algorithm.learner_group.update(
                episodes=fragments, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: STEPS}, num_epochs=1
            )
            results.append((before, _weights(algorithm)))
    (first, one), (second, two) = results
    _assert_same(first, second)
    assert any(not np.array_equal(first[name], one[name]) for name in one)
    for name, value in one.items():
        # The optimisers' first step is about 1e-3 in each weight, whatever the size of its gradient.
        np.testing.assert_allclose(value, two[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("runners", [0, 2])
def test_a_restored_training_goes_on_where_it_was(
    runners: int, small_ray: None, small_dataset: Dataset, tmp_path: Path
) -> None:
    """Environments in the middle of their episodes, windows, noise, minibatch orders: the same to the bit."""
    checkpoint = tmp_path / "checkpoint"
    weights = []
    with built(_config(small_dataset, num_env_runners=runners)) as algorithm:
        for _ in range(2):
            algorithm.train()
        algorithm.save_to_path(checkpoint)
        algorithm.train()
        weights.append(_weights(algorithm))
    with built(_config(small_dataset, num_env_runners=runners)) as algorithm:
        algorithm.restore_from_path(str(checkpoint))
        algorithm.train()
        weights.append(_weights(algorithm))
    _assert_same(*weights)


def test_evaluation_on_fragments(small_ray: None, small_dataset: Dataset) -> None:
    config = _config(small_dataset).evaluation(
        evaluation_interval=1, evaluation_duration=5, evaluation_num_env_runners=0
    )
    with built(config) as algorithm:
        evaluated = algorithm.train()["evaluation"]["env_runners"]
    assert evaluated["num_episodes"] == 5
    assert evaluated["episode_len_mean"] == 24
    assert np.isfinite(evaluated["episode_return_mean"])
