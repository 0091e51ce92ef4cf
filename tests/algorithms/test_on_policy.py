"""What A2C and PPO share besides minibatches and advantages: entropy, errors, what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from iquitos_rl.algorithms import A2CConfig, PPOConfig, build_algorithm_config
from iquitos_rl.algorithms.errors import NonFiniteGradientError
from tests.algorithms.fragments import random_fragment


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
@pytest.mark.parametrize("budget", [None, 10_000])
def test_entropy_coefficient_falls_linearly_over_the_step_budget(
    algorithm: str, budget: int | None, point_env: Any, load_settings: Callable[..., Any]
) -> None:
    config = build_algorithm_config(load_settings(algorithm), env="unused", env_config={}, env_steps=budget)
    learner: Any = config.build_learner(env=point_env)
    steps = budget or 500_000
    values = []
    for share in (0, 0.25, 0.5, 1, 1.1):
        learner.before_gradient_based_update(timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: round(share * steps)})
        scheduler = learner.entropy_coeff_schedulers_per_module[DEFAULT_MODULE_ID]
        values.append(float(scheduler.get_current_value()))
    assert values == pytest.approx([0.01, 0.00775, 0.0055, 0.001, 0.001])


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
def test_a_gradient_that_is_not_finite_is_not_applied(
    algorithm: str, point_env: Any, load_settings: Callable[..., Any]
) -> None:
    never_stop = {"target_kl": None} if algorithm == "ppo" else {}
    settings = load_settings(algorithm, hidden=[8], minibatch_size=20, **never_stop)
    learner: Any = build_algorithm_config(settings, env="unused", env_config={}, seed=1).build_learner(
        env=point_env
    )
    fragment = random_fragment(0, observation=2)
    fragment.rewards[3, 1] = np.nan
    module = learner.module[DEFAULT_MODULE_ID]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(NonFiniteGradientError) as error:
        learner.update(
            episodes=[fragment],
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 60},
            num_epochs=1,
            minibatch_size=len(fragment),
        )
    text = str(error.value)
    assert f"{algorithm.upper()}: the gradient of update 1 (after 60 env steps)" in text
    assert "vf_loss = nan" in text
    assert "learning_rate" in text
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
def test_one_step_over_the_whole_rollout_uses_the_values_at_hand(
    algorithm: str, point_env: Any, load_settings: Callable[..., Any]
) -> None:
    """The values that the advantages are made of are the loss's too: the same step as when computed anew."""
    never_stop = {"target_kl": None} if algorithm == "ppo" else {}
    settings = load_settings(algorithm, hidden=[8], minibatch_size=20, **never_stop)
    config: Any = build_algorithm_config(settings, env="unused", env_config={}, seed=1)
    fragment: Any = random_fragment(2, steps=30, observation=2)
    steps = {"timesteps": {NUM_ENV_STEPS_SAMPLED_LIFETIME: 60}, "num_epochs": 1}
    learners: list[Any] = [config.build_learner(env=point_env) for _ in range(2)]
    batch = learners[0]._make_batch_if_necessary(TrainingData(episodes=[fragment]))
    learners[0].update(batch=batch, **steps)
    learners[1].update(episodes=[fragment], **steps)
    once, anew = (learner.module[DEFAULT_MODULE_ID].state_dict() for learner in learners)
    first = config.build_learner(env=point_env).module[DEFAULT_MODULE_ID].state_dict()
    for name, tensor in once.items():
        torch.testing.assert_close(tensor, anew[name], atol=1e-6, rtol=0, msg=name)
        assert not torch.equal(tensor, first[name]) or "const" in name


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"use_kl_loss": True}, "use_kl_loss = True"),
        ({"vf_clip_param": 10.0}, "vf_clip_param = 10.0"),
        ({"grad_clip_by": "value"}, "grad_clip_by = 'value'"),
        ({"use_critic": False}, "use_critic = False"),
    ],
)
@pytest.mark.parametrize("kind", [A2CConfig, PPOConfig])
def test_options_that_would_be_left_out_are_refused(kind: Any, change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        kind().training(**change).validate()


def test_a_network_with_shared_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="vf_share_layers = True"):
        A2CConfig().rl_module(model_config={"vf_share_layers": True, "free_log_std": True}).validate()
