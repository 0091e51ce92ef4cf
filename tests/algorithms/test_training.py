"""Short training runs through real Ray: learning, counting, results, saving and loading."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from iquitos_rl.algorithms import A2CConfig, PPOConfig, build_algorithm_config

pytestmark = [
    pytest.mark.integration,
    # RLlib registers every environment under this one name
    pytest.mark.filterwarnings("ignore:.*Overriding environment rllib-single-agent-env-v0:UserWarning"),
]

SMALL: dict[str, dict[str, Any]] = {
    "a2c": {"n_steps": 256, "minibatch_size": 60, "hidden": [16]},
    "ppo": {"n_steps": 256, "minibatch_size": 60, "hidden": [16], "epochs": 2},
    "sac": {"warmup_steps": 50, "batch_size": 16, "hidden": [16], "steps_per_iteration": 40},
}


@pytest.fixture
def build(ray_session: str, load_settings: Callable[..., Any]) -> Any:
    """Build an algorithm on the point environment; all are stopped at the end of the test."""
    algorithms = []

    def start(name: str, num_envs: int = 8, seed: int = 1, **changes: Any) -> Any:
        settings = load_settings(name, **(SMALL[name] | changes))
        config = build_algorithm_config(
            settings, env=ray_session, env_config={"terminates": True}, num_envs=num_envs, seed=seed
        )
        algorithms.append(config.build_algo())
        return algorithms[-1]

    yield start
    for algorithm in algorithms:
        algorithm.stop()


def _learner(algorithm: Any) -> Any:
    return algorithm.learner_group._learner


def _weights(algorithm: Any) -> dict[str, torch.Tensor]:
    state = _learner(algorithm).module[DEFAULT_MODULE_ID].state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def _results(result: dict[str, Any]) -> dict[str, Any]:
    return result["learners"][DEFAULT_MODULE_ID]


@pytest.mark.parametrize(("name", "changes"), [("a2c", {}), ("ppo", {"epochs": 5})])
def test_learns_a_continuous_control_task(name: str, changes: dict[str, Any], build: Any) -> None:
    algorithm = build(name, 8, **changes, learning_rate=3e-3, hidden=[32], gamma=0.9, gae_lambda=0.95)
    before = algorithm.train()["env_runners"]["episode_return_mean"]
    for _ in range(60 if name == "a2c" else 25):
        after = algorithm.train()["env_runners"]["episode_return_mean"]
    assert before < -8.0
    assert after > -3.0


def test_a_whole_rollout_is_one_gradient_step(build: Any) -> None:
    algorithm = build("a2c", minibatch_size=None)
    for _ in range(3):
        assert _results(algorithm.train())["num_minibatch_updates"] == 1


@pytest.mark.parametrize("kind", [A2CConfig, PPOConfig])
def test_without_any_settings(kind: Any, ray_session: str) -> None:
    """As in A2C's docstring: RLlib's way of building, on an environment of Gymnasium's."""
    algorithm = kind().environment("Pendulum-v1").env_runners(num_env_runners=0).build_algo()
    try:
        assert math.isfinite(algorithm.train()["learners"]["default_policy"]["policy_loss"])
    finally:
        algorithm.stop()


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_on_policy_results(name: str, build: Any) -> None:
    algorithm = build(name)
    for iteration in (1, 2):
        result = algorithm.train()
        steps = result["num_env_steps_sampled_lifetime"]
        assert steps >= 256 * iteration
        learner = _results(result)
        for key in (
            "policy_loss",
            "vf_loss",
            "entropy",
            "total_loss",
            "approx_kl",
            "grad_norm",
            "vf_explained_var",
        ):
            assert math.isfinite(learner[key]), key
        updates_per_epoch = math.ceil(result["env_runners"]["num_env_steps_sampled"] / 60)
        assert learner["num_minibatch_updates"] <= updates_per_epoch * SMALL[name].get("epochs", 1)
        assert name == "ppo" or learner["num_minibatch_updates"] == updates_per_epoch
        assert learner["curr_entropy_coeff"] == pytest.approx(0.01 - 0.009 * steps / 500_000, abs=1e-8)


def test_sac_updates_once_per_environment_step_after_the_warm_up(build: Any) -> None:
    algorithm = build("sac", num_envs=1)
    updates = 0
    for _ in range(4):
        result = algorithm.train()
        updates += result.get("learners", {}).get(DEFAULT_MODULE_ID, {}).get("num_minibatch_updates", 0)
    assert result["num_env_steps_sampled_lifetime"] == 160
    assert updates == 160 - 50
    learner = _results(result)
    for key in ("policy_loss", "qf_loss", "alpha_loss", "entropy", "grad_norm", "qf_mean"):
        assert math.isfinite(learner[key]), key


def test_sac_learns_its_temperature(build: Any) -> None:
    algorithm = build("sac", num_envs=1, learning_rate=1e-2)
    while "learners" not in (result := algorithm.train()) or not result["learners"]:
        pass
    first = _results(result)["alpha_value"]
    last = _results(algorithm.train())["alpha_value"]
    # a fresh policy is more random than the target of -2 nats: its entropy is worth less and less
    assert first < 1.0
    assert last < first
    assert _results(result)["target_entropy"] == -2.0


def test_sac_q_networks_have_the_stated_layers(build: Any) -> None:
    shapes = {name: tuple(weight.shape) for name, weight in _weights(build("sac", hidden=[24, 16])).items()}
    inputs = 2 + 2  # observation and action side by side
    for critic in ("qf_encoder", "qf_twin_encoder", "target_qf_encoder", "target_qf_twin_encoder"):
        layers = [s for n, s in shapes.items() if n.startswith(critic + ".") and n.endswith("weight")]
        assert layers == [(24, inputs), (16, 24)]


@pytest.mark.parametrize("name", ["a2c", "ppo", "sac"])
def test_the_same_seed_gives_the_same_weights(name: str, build: Any) -> None:
    runs = []
    for seed in (1, 1, 2):
        algorithm = build(name, num_envs=2, seed=seed)
        for _ in range(2):
            algorithm.train()
        runs.append(_weights(algorithm))
    first, again, other = runs
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_save_and_restore_is_exact(name: str, build: Any, tmp_path: Path) -> None:
    algorithm = build(name)
    for _ in range(2):
        algorithm.train()
    algorithm.save_to_path(tmp_path / "checkpoint")
    restored = build(name)
    restored.restore_from_path((tmp_path / "checkpoint").as_posix())

    before, after = _weights(algorithm), _weights(restored)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    optimizers = [_learner(each).get_optimizer().state_dict()["state"] for each in (algorithm, restored)]
    assert optimizers[0].keys() == optimizers[1].keys() != set()
    for index, state in optimizers[0].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(optimizers[1][index][key])), key

    # The next update from the same data is the same too: same minibatch order, same entropy coefficient.
    episodes = algorithm.env_runner.sample(num_timesteps=256)
    steps = {"num_env_steps_sampled_lifetime": 400_000}
    for each in (algorithm, restored):
        _learner(each).update(
            episodes=deepcopy(episodes),
            timesteps=steps,
            num_epochs=each.config.num_epochs,
            minibatch_size=60,
        )
    continued, continued_restored = _weights(algorithm), _weights(restored)
    assert any(not torch.equal(before[key], continued[key]) for key in before)
    assert all(torch.equal(continued[key], continued_restored[key]) for key in continued)
    assert restored.train()["num_env_steps_sampled_lifetime"] >= 3 * 256
