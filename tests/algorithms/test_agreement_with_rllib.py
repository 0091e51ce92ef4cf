"""A2C's and PPO's update on one batch is that of RLlib's own PPO learner, where both are set alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig as StockConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from iquitos_rl.algorithms import build_algorithm_config

SAMPLES = 120
ENTROPY = 0.01
GRAD_CLIP = 0.5


def _stock_learner(env: Any, clip_param: float) -> Any:
    """RLlib's PPO without what A2C and PPO here do not have: KL penalty, clipping of the value error."""
    config = StockConfig().training(
        use_kl_loss=False,
        kl_coeff=0.0,
        vf_clip_param=float("inf"),
        vf_loss_coeff=0.5,
        entropy_coeff=ENTROPY,
        clip_param=clip_param,
        grad_clip=GRAD_CLIP,
        grad_clip_by="global_norm",
        lr=1e-4,
    )
    model = DefaultModelConfig(
        fcnet_hiddens=[16, 12],
        fcnet_activation="tanh",
        head_fcnet_hiddens=[],
        vf_share_layers=False,
        free_log_std=True,
    )
    return config.rl_module(model_config=model).build_learner(env=env)


def _batch(learner: Any, log_ratio: float) -> MultiAgentBatch:
    """Samples of a policy whose log probabilities differ from the learner's by up to so much."""
    rng = np.random.default_rng(3)
    observations = torch.from_numpy(rng.normal(size=(SAMPLES, 2)).astype(np.float32))
    module = learner.module[DEFAULT_MODULE_ID].unwrapped()
    with torch.no_grad():
        logits = module._forward({Columns.OBS: observations})[Columns.ACTION_DIST_INPUTS]
        distribution = module.get_train_action_dist_cls().from_logits(logits)
        actions = distribution.sample()
        noise = torch.from_numpy(rng.uniform(-log_ratio, log_ratio, SAMPLES).astype(np.float32))
    columns = {
        Columns.OBS: observations,
        Columns.ACTIONS: actions,
        Columns.ACTION_DIST_INPUTS: logits,
        Columns.ACTION_LOGP: distribution.logp(actions) + noise,
        Postprocessing.ADVANTAGES: torch.from_numpy(rng.normal(1.0, 3.0, SAMPLES).astype(np.float32)),
        Postprocessing.VALUE_TARGETS: torch.from_numpy(rng.normal(5.0, 2.0, SAMPLES).astype(np.float32)),
    }
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=SAMPLES)


@pytest.mark.parametrize(
    ("algorithm", "log_ratio", "clip_param"),
    [
        ("ppo", 0.6, 0.2),  # ratios from 0.55 to 1.8: the clip is at work on both sides
        (
            "a2c",
            0.0,
            1e9,
        ),  # RLlib has no A2C; unclipped and at ratio 1, PPO's gradient is its
    ],
)
def test_losses_and_gradients_of_one_batch(
    algorithm: str, log_ratio: float, clip_param: float, point_env: Any, load_settings: Callable[..., Any]
) -> None:
    never_stop = {"target_kl": None} if algorithm == "ppo" else {}
    settings = load_settings(
        algorithm,
        hidden=[16, 12],
        n_steps=SAMPLES,
        minibatch_size=SAMPLES,
        entropy_coefficient={"start": ENTROPY, "end": ENTROPY},
        normalize_advantage=False,  # RLlib does that over the rollout, before the learner's batch
        max_grad_norm=GRAD_CLIP,
        **never_stop,
    )
    ours: Any = build_algorithm_config(settings, env="unused", env_config={}, seed=5).build_learner(
        env=point_env
    )
    stock = _stock_learner(point_env, clip_param)
    mine, theirs = (learner.module[DEFAULT_MODULE_ID].unwrapped() for learner in (ours, stock))
    theirs.load_state_dict(mine.state_dict())
    batch = _batch(ours, log_ratio)

    results = []
    for learner in (ours, stock):
        found = learner.update(batch=batch.copy(), timesteps={}, minibatch_size=SAMPLES, num_epochs=1)
        results.append({name: float(stat.peek()) for name, stat in found[DEFAULT_MODULE_ID].items()})

    for name in ("vf_loss", "entropy") + (("policy_loss", "total_loss") if algorithm == "ppo" else ()):
        assert results[0][name] == pytest.approx(results[1][name], abs=1e-5, rel=1e-5), name
    named = dict(theirs.named_parameters())
    assert any(parameter.grad.abs().max() > 1e-3 for parameter in mine.parameters())
    for name, parameter in mine.named_parameters():
        torch.testing.assert_close(parameter.grad, named[name].grad, atol=1e-5, rtol=0, msg=name)
