"""PPO on RLlib's new API stack with Stable-Baselines3's update: loss, shuffling and early stop."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from torch import Tensor

from iquitos_rl.algorithms.on_policy import APPROX_KL, OnPolicyAlgorithm, OnPolicyConfig, OnPolicyLearner

__all__ = ["PPO", "PPOConfig", "PPOLearner"]

KL_TOLERANCE = 1.5
"""Stable-Baselines3 stops where the approximate KL exceeds this many times `target_kl`."""


class PPO(OnPolicyAlgorithm):
    """Proximal policy optimisation with the clipped objective.

    Paper: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", arXiv:1707.06347. The update
    is Stable-Baselines3's (see `PPOLearner`).
    """

    @classmethod
    def get_default_config(cls) -> PPOConfig:
        """Return the configuration with Stable-Baselines3's defaults."""
        return PPOConfig()


class PPOConfig(OnPolicyConfig):
    """Configuration of `PPO`; the defaults are Stable-Baselines3's.

    Args of `training`, besides those of RLlib's `AlgorithmConfig`:
        lr: Step size of Adam, > 0, or an RLlib schedule over environment steps. 3e-4.
        train_batch_size_per_learner: Environment steps per update and learner, over all parallel environments
            together. 2048.
        minibatch_size: Samples per gradient step and learner. What remains is the last, smaller one. 64.
        num_epochs: Passes over each rollout, each shuffled anew. 10.
        gamma: Discount per environment step, 0-1. 0.99.
        lambda_: Lambda of generalised advantage estimation, 0-1. 0.95.
        clip_param: Probability ratios beyond 1 -/+ this earn nothing more, > 0. 0.2.
        entropy_coeff: Weight of the entropy bonus, >= 0, or a schedule [[env step, value], ...] from step 0.
            0.0.
        vf_loss_coeff: Weight of the squared value error, >= 0; it is not clipped. 0.5.
        grad_clip: Largest global L2 norm of one gradient step, > 0, or None. 0.5.
        normalize_advantage: Standardise the advantages of each minibatch. True.
        target_kl: Early stop, > 0 nats, or None for never. A minibatch whose approximate KL divergence from
            the sampling policy exceeds 1.5 x this is not applied and ends the update. None. Not to be
            confused with RLlib's `kl_target`, the set point of an adaptive penalty, which is off here.
        adam_epsilon: Added to Adam's denominator, > 0. 1e-5.
    """

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or PPO)
        self.lr = 3e-4
        self.train_batch_size_per_learner = 2048
        self.minibatch_size = 64
        self.num_epochs = 10
        self.lambda_ = 0.95
        self.clip_param = 0.2
        self.vf_loss_coeff = 0.5
        self.grad_clip = 0.5
        self.normalize_advantage = True
        self.target_kl: float | None = None
        self.adam_epsilon = 1e-5

    def training(
        self,
        *,
        target_kl: Any = NotProvided,
        adam_epsilon: Any = NotProvided,
        **kwargs: Any,
    ) -> PPOConfig:
        """Set training options, see the class."""
        super().training(**kwargs)
        if target_kl is not NotProvided:
            self.target_kl = target_kl
        if adam_epsilon is not NotProvided:
            self.adam_epsilon = adam_epsilon
        return self

    def get_default_learner_class(self) -> type[PPOLearner]:
        """Return the learner."""
        return PPOLearner


class PPOLearner(OnPolicyLearner):
    """Clipped surrogate objective under Adam, with the early stop on the approximate KL divergence."""

    def policy_loss(self, advantages: Tensor, log_prob: Tensor, ratio: Tensor) -> Tensor:
        """Return minus the mean of the smaller of the plain and the clipped surrogate."""
        clipped = ratio.clamp(1 - self.config.clip_param, 1 + self.config.clip_param)
        return -torch.min(advantages * ratio, advantages * clipped).mean()

    def policy_moved_too_far(self) -> bool:
        """Tell whether the approximate KL divergence exceeds 1.5 x `target_kl` (the mean of all learners)."""
        if self.config.target_kl is None:
            return False
        approx_kl = self._statistics[APPROX_KL][-1].clone()
        if self.config.num_learners > 1:  # all stop, or none: each waits for the others at the next minibatch
            torch.distributed.all_reduce(approx_kl)
            approx_kl /= self.config.num_learners
        return bool(approx_kl > KL_TOLERANCE * self.config.target_kl)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register Adam for all parameters of the module."""
        config = config or self.config
        params = self.get_parameters(self._module[module_id])
        optimizer = torch.optim.Adam(params, eps=config.adam_epsilon, fused=True)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr
        )
