"""A2C for RLlib's new API stack, which has none of its own."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from torch import Tensor

from iquitos_rl.algorithms.on_policy import OnPolicyAlgorithm, OnPolicyConfig, OnPolicyLearner

__all__ = ["A2C", "A2CConfig", "A2CLearner"]


class A2C(OnPolicyAlgorithm):
    """Advantage actor-critic (A2C), the synchronous form of A3C.

    Paper: Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", arXiv:1602.01783. The
    update is Stable-Baselines3's, except that the rollout may be split into minibatches (see `A2CLearner`).

    Each iteration samples `train_batch_size_per_learner` x learners environment steps with the current
    policy, takes one pass of gradient steps over them, and sends the new weights to the env runners.

    A minimal use, on one process:

        config = A2CConfig().environment("Pendulum-v1").env_runners(num_env_runners=0)
        algorithm = config.build_algo()
        algorithm.train()["learners"]["default_policy"]["policy_loss"]
    """

    @classmethod
    def get_default_config(cls) -> A2CConfig:
        """Return the configuration with Stable-Baselines3's defaults."""
        return A2CConfig()


class A2CConfig(OnPolicyConfig):
    """Configuration of `A2C`; the defaults are Stable-Baselines3's where it has them.

    Set by `.training(...)`, besides all that RLlib's `AlgorithmConfig` offers:

    Args of `training`:
        lr: Step size of RMSProp, > 0, or an RLlib schedule over environment steps. 7e-4.
        train_batch_size_per_learner: Environment steps per update and learner, over all parallel environments
            together. 2048.
        minibatch_size: Samples per gradient step and learner, 1..train_batch_size_per_learner; None = all at
            once, as in the paper. What remains is the last, smaller minibatch. None.
        gamma: Discount per environment step, 0-1. 0.99.
        lambda_: Lambda of generalised advantage estimation, 0-1; 1 = the paper's n-step advantage. 1.0.
        entropy_coeff: Weight of the entropy bonus, >= 0, or a schedule [[env step, value], ...] from step 0.
            0.0.
        vf_loss_coeff: Weight of the squared value error, >= 0. 0.5.
        grad_clip: Largest global L2 norm of one gradient step, > 0, or None. 0.5.
        normalize_advantage: Standardise the advantages of each minibatch. False. With a last minibatch of few
            samples this is noisy.
        rmsprop_alpha: Decay of the mean squared gradient, 0-1. 0.99.
        rmsprop_epsilon: Added to the root of that mean, > 0. 1e-5.

    `num_epochs` stays 1: without clipping, further passes over the same samples are not safe.
    """

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or A2C)
        self.lr = 7e-4
        self.train_batch_size_per_learner = 2048
        self.minibatch_size = None
        self.num_epochs = 1
        self.lambda_ = 1.0
        self.vf_loss_coeff = 0.5
        self.grad_clip = 0.5
        self.rmsprop_alpha = 0.99
        self.rmsprop_epsilon = 1e-5

    def training(
        self,
        *,
        rmsprop_alpha: Any = NotProvided,
        rmsprop_epsilon: Any = NotProvided,
        **kwargs: Any,
    ) -> A2CConfig:
        """Set training options, see the class."""
        super().training(**kwargs)
        if rmsprop_alpha is not NotProvided:
            self.rmsprop_alpha = rmsprop_alpha
        if rmsprop_epsilon is not NotProvided:
            self.rmsprop_epsilon = rmsprop_epsilon
        return self

    def validate(self) -> None:
        """Check the options; raises ValueError."""
        super().validate()
        if self.num_epochs != 1:
            raise ValueError(f"A2C makes one pass over each rollout; num_epochs={self.num_epochs} is not A2C")

    def get_default_learner_class(self) -> type[A2CLearner]:
        """Return the learner."""
        return A2CLearner


class A2CLearner(OnPolicyLearner):
    """Policy gradient weighted with the importance ratio, without clipping, under RMSProp.

    The gradient is the mean of `exp(logp - logp_old) * advantage * grad logp`. While the policy is still the
    one that sampled, the ratio is 1 and this is A2C's gradient (and loss value) exactly. After the first
    minibatch it no longer is, and the plain gradient would keep pushing on actions that the new policy takes
    more or less often; it diverged in trials at a learning rate of 3e-4. The ratio is a constant weight here
    (detached), which has the same gradient as differentiating the ratio itself.
    """

    def policy_loss(self, advantages: Tensor, log_prob: Tensor, ratio: Tensor) -> Tensor:
        """Return minus the mean of advantage x log probability, weighted with the detached ratio."""
        return -(advantages * ratio.detach() * log_prob).mean()

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register RMSProp for all parameters of the module."""
        config = config or self.config
        params = self.get_parameters(self._module[module_id])
        optimizer = torch.optim.RMSprop(params, alpha=config.rmsprop_alpha, eps=config.rmsprop_epsilon)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr
        )
