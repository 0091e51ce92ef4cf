"""One update from the same weights on the same batch is Stable-Baselines3's update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import stable_baselines3
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from stable_baselines3.common.logger import configure

from iquitos_rl.algorithms import build_algorithm_config

SAMPLES = 200
HIDDEN = (16, 12)
SEED = 5
ENTROPY = 0.01


def _sb3(name: str, env: Any, **options: Any) -> Any:
    """A Stable-Baselines3 model whose rollout buffer is filled with a made-up rollout."""
    model = getattr(stable_baselines3, name)(
        "MlpPolicy",
        env,
        n_steps=SAMPLES,
        ent_coef=ENTROPY,
        policy_kwargs={"net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)}},
        seed=SEED,
        device="cpu",
        **options,
    )
    model.set_logger(configure(None, []))
    rng = np.random.default_rng(SEED)
    observations = rng.normal(size=(SAMPLES, *env.observation_space.shape)).astype(np.float32)
    with torch.no_grad():
        actions, values, log_probs = model.policy(torch.from_numpy(observations))
    buffer = model.rollout_buffer
    buffer.reset()
    buffer.observations[:, 0] = observations
    buffer.actions[:, 0] = actions
    buffer.log_probs[:, 0] = log_probs
    buffer.values[:, 0] = values[:, 0]
    buffer.advantages[:, 0] = rng.normal(1.0, 3.0, SAMPLES)
    buffer.returns[:, 0] = rng.normal(5.0, 2.0, SAMPLES)
    buffer.full = True
    return model


def _batch_of(model: Any) -> MultiAgentBatch:
    buffer = model.rollout_buffer
    columns = {
        Columns.OBS: buffer.observations,
        Columns.ACTIONS: buffer.actions,
        Columns.ACTION_LOGP: buffer.log_probs,
        Postprocessing.ADVANTAGES: buffer.advantages,
        Postprocessing.VALUE_TARGETS: buffer.returns,
    }
    samples = {name: torch.from_numpy(column[:, 0].copy()) for name, column in columns.items()}
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(samples)}, env_steps=SAMPLES)


def _learner(settings: Any, env: Any, **training: Any) -> Any:
    config = build_algorithm_config(settings, env="unused", env_config={}, seed=SEED).training(**training)
    return config.build_learner(env=env)


def _parameter_pairs(learner: Any, model: Any) -> list[tuple[str, torch.nn.Parameter, torch.nn.Parameter]]:
    """Corresponding parameters of ours and theirs, all of both."""
    module, policy = learner.module[DEFAULT_MODULE_ID].unwrapped(), model.policy
    parts = [
        (module.encoder.actor_encoder, policy.mlp_extractor.policy_net),
        (module.pi.net, policy.action_net),
        (module.encoder.critic_encoder, policy.mlp_extractor.value_net),
        (module.vf, policy.value_net),
    ]
    pairs = [("log_std", module.pi.log_std, policy.log_std)]
    for ours, theirs in parts:
        named = list(theirs.named_parameters())
        assert len(list(ours.parameters())) == len(named)
        pairs += [(name, mine, other) for mine, (name, other) in zip(ours.parameters(), named, strict=True)]
    assert len(pairs) == len(list(module.parameters())) == len(list(policy.parameters()))
    return pairs


def _copy_weights(learner: Any, model: Any) -> None:
    with torch.no_grad():
        for _, ours, theirs in _parameter_pairs(learner, model):
            ours.copy_(theirs)


def _update(learner: Any, batch: MultiAgentBatch, minibatch_size: int, epochs: int) -> dict[str, float]:
    results = learner.update(
        batch=batch,
        timesteps={},
        minibatch_size=minibatch_size,
        num_epochs=epochs,
    )
    return {name: float(stat.peek()) for name, stat in results[DEFAULT_MODULE_ID].items()}


def _assert_same_losses(ours: dict[str, float], model: Any) -> None:
    theirs = model.logger.name_to_value
    policy_loss = theirs.get("train/policy_loss", theirs.get("train/policy_gradient_loss"))
    assert ours["policy_loss"] == pytest.approx(policy_loss, abs=1e-5)
    assert ours["vf_loss"] == pytest.approx(theirs["train/value_loss"], abs=1e-4, rel=1e-5)
    assert ours["entropy"] == pytest.approx(-theirs["train/entropy_loss"], abs=1e-5)
    total = policy_loss + ENTROPY * theirs["train/entropy_loss"] + 0.5 * theirs["train/value_loss"]
    assert ours["total_loss"] == pytest.approx(total, rel=1e-5)


def _assert_same_gradients_and_weights(learner: Any, model: Any, tolerance: float = 1e-5) -> None:
    for name, ours, theirs in _parameter_pairs(learner, model):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=tolerance, rtol=0, msg=f"gradient of {name}")
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0, msg=f"new {name}")


@pytest.fixture
def constant_entropy() -> dict[str, Any]:
    """Settings that both libraries can have: a constant entropy coefficient, the small network."""
    return {
        "hidden": list(HIDDEN),
        "n_steps": SAMPLES,
        "entropy_coefficient": {"start": ENTROPY, "end": ENTROPY},
    }


@pytest.mark.parametrize("clips", [True, False], ids=["gradient clipped", "gradient below the limit"])
def test_a2c_update_on_one_batch(
    clips: bool, point_env: Any, load_settings: Callable[..., Any], constant_entropy: dict[str, Any]
) -> None:
    limit = 0.5 if clips else 1e3
    model = _sb3("A2C", point_env, learning_rate=1e-4, gamma=0.99, max_grad_norm=limit)
    settings = load_settings("a2c", **constant_entropy, minibatch_size=SAMPLES, max_grad_norm=limit)
    learner = _learner(settings, point_env)
    _copy_weights(learner, model)
    batch = _batch_of(model)  # before train(), which reshapes the buffer

    model.train()
    results = _update(learner, batch, SAMPLES, epochs=1)

    _assert_same_losses(results, model)
    _assert_same_gradients_and_weights(learner, model)
    assert (results["grad_norm"] > 0.5) or not clips  # else the case "clipped" would show nothing
    assert results["num_minibatch_updates"] == 1


def test_a2c_corrects_for_the_policy_that_sampled(
    point_env: Any, load_settings: Callable[..., Any], constant_entropy: dict[str, Any]
) -> None:
    model = _sb3("A2C", point_env)
    batch = _batch_of(model)
    learner = _learner(load_settings("a2c", **constant_entropy, max_grad_norm=1e6), point_env)
    _copy_weights(learner, model)
    log_std = learner.module[DEFAULT_MODULE_ID].unwrapped().pi.log_std
    gradients = []
    for log_ratio in (0.0, -np.log(2.0)):  # the policy that sampled found every action twice as likely: half
        samples = batch[DEFAULT_MODULE_ID]
        shifted = dict(samples) | {Columns.ACTION_LOGP: samples[Columns.ACTION_LOGP] - log_ratio}
        _copy_weights(learner, model)
        _update(learner, MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(shifted)}, SAMPLES), SAMPLES, 1)
        gradients.append(log_std.grad + ENTROPY)  # without the entropy's share, which is constant
    torch.testing.assert_close(gradients[1], 0.5 * gradients[0], rtol=1e-4, atol=1e-6)


def test_ppo_update_on_one_batch(
    point_env: Any, load_settings: Callable[..., Any], constant_entropy: dict[str, Any]
) -> None:
    model = _sb3("PPO", point_env, learning_rate=1e-4, batch_size=SAMPLES, n_epochs=1)
    # probability ratios of 0.55-1.8, so that the clip at 0.8-1.2 is at work on both sides
    model.rollout_buffer.log_probs += np.random.default_rng(1).uniform(-0.6, 0.6, (SAMPLES, 1))
    settings = load_settings("ppo", **constant_entropy, minibatch_size=SAMPLES, epochs=1, target_kl=None)
    learner = _learner(settings, point_env)
    _copy_weights(learner, model)
    batch = _batch_of(model)

    model.train()
    results = _update(learner, batch, SAMPLES, epochs=1)

    assert model.logger.name_to_value["train/clip_fraction"] > 0.3
    _assert_same_losses(results, model)
    assert results["approx_kl"] == pytest.approx(model.logger.name_to_value["train/approx_kl"], abs=1e-6)
    _assert_same_gradients_and_weights(learner, model)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size:UserWarning")  # on purpose
@pytest.mark.parametrize("target_kl", [None, 0.005, 0.002])
def test_ppo_applies_the_same_minibatches(
    target_kl: float | None,
    point_env: Any,
    load_settings: Callable[..., Any],
    constant_entropy: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whole update: 10 epochs of minibatches of 64, 64, 64 and 8, normalised one by one, early stop."""
    model = _sb3("PPO", point_env, learning_rate=3e-3, batch_size=64, n_epochs=10, target_kl=target_kl)
    settings = load_settings("ppo", **constant_entropy, learning_rate=3e-3, target_kl=target_kl)
    learner = _learner(settings, point_env)
    _copy_weights(learner, model)
    batch = _batch_of(model)
    optimizer_step = Mock(wraps=model.policy.optimizer.step)
    monkeypatch.setattr(model.policy.optimizer, "step", optimizer_step)
    # The learner draws its first update's orders from [seed, 1]; let Stable-Baselines3 draw the same ones.
    monkeypatch.setattr(np.random, "permutation", np.random.default_rng([SEED, 1]).permutation)

    model.train()
    results = _update(learner, batch, 64, epochs=10)

    assert results["num_minibatch_updates"] == optimizer_step.call_count
    assert (optimizer_step.call_count == 40) == (target_kl is None)
    for name, ours, theirs in _parameter_pairs(learner, model):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0, msg=f"new {name}")


def test_first_weights_follow_stable_baselines3(point_env: Any, load_settings: Callable[..., Any]) -> None:
    module = _learner(load_settings("ppo"), point_env).module[DEFAULT_MODULE_ID].unwrapped()
    for network, gain in ((module.pi.net, 0.01), (module.vf, 1.0), (module.encoder, 2**0.5)):
        for parameter in network.parameters():
            if parameter.ndim == 2:
                singular_values = torch.linalg.svdvals(parameter)
                torch.testing.assert_close(singular_values, torch.full_like(singular_values, gain))
            else:
                assert not parameter.any()
    assert not module.pi.log_std.any()
