"""SAC as a whole through real Ray: counts of updates, what it stores, saving and loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from iquitos_rl.algorithms import build_algorithm_config

pytestmark = [
    pytest.mark.integration,
    # RLlib registers every environment under this one name
    pytest.mark.filterwarnings("ignore:.*Overriding environment rllib-single-agent-env-v0:UserWarning"),
]

SMALL = {"warmup_steps": 50, "batch_size": 16, "hidden": [16], "steps_per_iteration": 40, "buffer_size": 400}


@pytest.fixture
def build(ray_session: str, load_settings: Callable[..., Any]) -> Any:
    """Build SAC on the point environment; all are stopped at the end of the test."""
    algorithms = []

    def start(num_envs: int = 1, num_env_runners: int = 0, seed: int = 1, **changes: Any) -> Any:
        config = build_algorithm_config(
            load_settings("sac", **(SMALL | changes)),
            env=ray_session,
            env_config={"terminates": True},
            num_envs=num_envs,
            num_env_runners=num_env_runners,
            num_cpus_per_env_runner=0.5,
            seed=seed,
        )
        algorithms.append(config.build_algo())
        return algorithms[-1]

    yield start
    for algorithm in algorithms:
        algorithm.stop()


def _learner(algorithm: Any) -> Any:
    return algorithm.learner_group._learner


def _tensors(algorithm: Any) -> dict[str, torch.Tensor]:
    """Weights, target networks, temperature and what the optimisers remember."""
    learner = _learner(algorithm)
    tensors = dict(learner.module[DEFAULT_MODULE_ID].state_dict())
    tensors["alpha"] = learner.curr_log_alpha[DEFAULT_MODULE_ID].detach()
    for name, optimizer in learner._named_optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _count_updates(algorithm: Any, iterations: int) -> tuple[int, float]:
    """Environment steps and updates of some training iterations."""
    updates = 0.0
    for _ in range(iterations):
        result = algorithm.train()
        updates += result.get("learners", {}).get(DEFAULT_MODULE_ID, {}).get("num_minibatch_updates", 0)
    return result["num_env_steps_sampled_lifetime"], updates


@pytest.mark.parametrize(
    ("num_envs", "runners", "ratio"),
    [(1, 0, 1), (8, 0, 1), (64, 0, 1), (8, 1, 1), (4, 2, 1), (8, 0, 0.3), (2, 0, 2.5)],
)
def test_updates_follow_the_environment_steps_exactly(
    num_envs: int, runners: int, ratio: float, build: Any
) -> None:
    """Episodes end in between, at a different step in each environment."""
    algorithm = build(num_envs, runners, updates_per_env_step=ratio)
    steps, updates = _count_updates(algorithm, 4)
    assert steps >= 160
    assert algorithm.local_replay_buffer.steps_added == steps
    assert updates == int((steps - 50) * ratio + 1e-9)


def test_the_first_update_follows_the_step_after_the_warm_up(build: Any) -> None:
    algorithm = build(steps_per_iteration=1)
    assert _count_updates(algorithm, 50) == (50, 0)
    before = _tensors(algorithm)
    assert _count_updates(algorithm, 1) == (51, 1)
    after = _tensors(algorithm)
    changed = [name for name in before if name in after and not torch.equal(before[name], after[name])]
    assert any(name.startswith("pi.") for name in changed)
    assert any(name.startswith("target_qf.") for name in changed)


def test_stores_what_the_environment_did(build: Any) -> None:
    """Reward and next observation follow from observation and action, at the end of an episode too."""
    algorithm = build(8, buffer_size=200)
    _count_updates(algorithm, 8)
    drawn = algorithm.local_replay_buffer.sample(4000)
    step = drawn.next_observations[:, 0] - drawn.observations[:, 0]
    np.testing.assert_allclose(step, 0.2 * drawn.actions[:, 0], atol=1e-5)
    np.testing.assert_allclose(drawn.next_observations[:, 1] - drawn.observations[:, 1], 0.05, atol=1e-6)
    cost = drawn.next_observations[:, 0] ** 2 + 0.1 * ((drawn.actions[:, 1] + 1) / 2) ** 2
    np.testing.assert_allclose(drawn.rewards, -cost, atol=1e-5)
    assert np.array_equal(drawn.terminated, np.abs(drawn.next_observations[:, 0]) > 2)
    last = drawn.next_observations[:, 1] > 1 - 1e-6
    assert last.any()  # truncated there: what followed is the final observation, not that of the reset


def test_a_restored_run_takes_the_same_updates_to_the_bit(build: Any, tmp_path: Path) -> None:
    algorithm = build(4)
    _count_updates(algorithm, 3)
    algorithm.save_to_path(tmp_path / "checkpoint")
    restored = build(4, seed=1)
    restored.restore_from_path((tmp_path / "checkpoint").as_posix())

    before, after = _tensors(algorithm), _tensors(restored)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for each in (algorithm, restored):
        each._update(3)
        each._update(1)
    continued, continued_restored = _tensors(algorithm), _tensors(restored)
    assert any(not torch.equal(before[name], continued[name]) for name in before)
    assert continued["alpha"] != before["alpha"]
    assert all(torch.equal(continued[name], continued_restored[name]) for name in continued)
    draws = [each.local_replay_buffer.sample(100) for each in (algorithm, restored)]
    for name in ("observations", "actions", "rewards", "next_observations", "terminated"):
        assert np.array_equal(getattr(draws[0], name), getattr(draws[1], name)), name

    saved_at = algorithm.local_replay_buffer.steps_added
    steps, updates = _count_updates(restored, 2)
    assert steps >= saved_at + 80
    assert updates == 4 + steps - saved_at  # the four from above are reported now


def test_the_checkpoint_holds_the_buffer_without_code(build: Any, tmp_path: Path) -> None:
    algorithm = build(4)
    _count_updates(algorithm, 2)
    algorithm.save_to_path(tmp_path)
    files = sorted((tmp_path / "replay_buffer").iterdir())
    assert {file.suffix for file in files} == {".npy", ".json"}
    rewards = np.load(tmp_path / "replay_buffer" / "runner_0_rewards.npy", allow_pickle=False)
    assert rewards.shape[1] == 4
    assert len(algorithm.local_replay_buffer) == algorithm.local_replay_buffer.steps_added >= 80


def test_learns_a_continuous_control_task(build: Any) -> None:
    changes = {"learning_rate": 3e-3, "gamma": 0.9, "batch_size": 64, "buffer_size": 20_000}
    algorithm = build(8, hidden=[32], warmup_steps=200, steps_per_iteration=200, **changes)
    before = algorithm.train()["env_runners"]["episode_return_mean"]
    for _ in range(12):
        after = algorithm.train()["env_runners"]["episode_return_mean"]
    assert before < -8.0
    assert after > -3.0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"critic_loss": "mae"}, r"critic_loss = 'mae': this SAC takes 'mse' or 'huber'"),
        ({"n_step": 3}, r"n_step = 3: this SAC takes 1"),
        ({"grad_clip": 1.0}, r"grad_clip = 1.0: this SAC takes None"),
        ({"twin_q": False}, r"twin_q = False"),
        ({"target_network_update_freq": 10}, r"target_network_update_freq = 10"),
    ],
)
def test_options_that_would_not_be_honoured_are_refused(
    option: dict[str, Any], message: str, ray_session: str, load_settings: Callable[..., Any]
) -> None:
    config: Any = build_algorithm_config(load_settings("sac"), env=ray_session, env_config={})
    with pytest.raises(ValueError, match=message):
        config.training(**option).validate()
