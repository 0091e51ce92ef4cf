"""The network of A2C and PPO: an actor and a critic, each an MLP of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from torch import Tensor, nn

__all__ = [
    "LOG_STD",
    "MEAN",
    "ActorCriticModule",
    "actor_critic_model",
    "gaussian_entropy",
    "gaussian_log_prob",
]

MEAN, LOG_STD = "action_mean", "action_log_std"
"""What the training pass returns of the policy."""


def actor_critic_model(hidden: Sequence[int], activation: str) -> DefaultModelConfig:
    """The model config of `ActorCriticModule`: these hidden layers, for actor and critic each."""
    return DefaultModelConfig(
        fcnet_hiddens=list(hidden),
        fcnet_activation=activation,
        head_fcnet_hiddens=[],
        vf_share_layers=False,  # RLlib shares them by default
        free_log_std=True,  # one standard deviation per action, the same in all states, starting at 1
    )


class ActorCriticModule(DefaultPPOTorchRLModule):
    """Separate actor and critic MLPs with Stable-Baselines3's start: orthogonal weights, zero biases.

    Gains are sqrt(2) for hidden layers, 0.01 for the action means (the first policy is centred and nearly the
    same in every state) and 1 for the value. The log standard deviations are free parameters at 0.

    The parameters are RLlib's, by name and shape. Its passes through them are not used: between its layers
    they cost a third more than the layers themselves when 64 environments act.
    """

    encoder: Any
    pi: Any
    vf: Any

    def setup(self) -> None:
        """Build the networks from the model config, then set their first weights."""
        super().setup()
        for network, gain in ((self.encoder, 2**0.5), (self.pi, 0.01), (self.vf, 1.0)):
            network.apply(partial(_initialise_orthogonally, gain=gain))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return means and log standard deviations of the actions side by side, shape (B, 2A)."""
        mean, log_std = self._gaussian(batch)
        return {Columns.ACTION_DIST_INPUTS: torch.cat((mean, log_std.expand_as(mean)), dim=-1)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return them apart, with a gradient: means (B, A), log standard deviations (A,).

        The critic's part is `compute_values`.
        """
        mean, log_std = self._gaussian(batch)
        return {MEAN: mean, LOG_STD: log_std}

    def _gaussian(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        mean: Tensor = self.pi.net.mlp(self.encoder.actor_encoder.net.mlp(batch[Columns.OBS]))
        limit = self.pi.log_std_clip_param_const
        return mean, torch.clamp(self.pi.log_std, -limit, limit)

    def sample_actions(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Draw an action for each observation (B, O): actions (B, A), log probabilities (B,).

        What RLlib's exploration pass and distribution do, in half the time: all samples share their standard
        deviations. Raises RuntimeError (torch) for one that is NaN.
        """
        mean, log_std = self._gaussian({Columns.OBS: observations})
        actions = torch.normal(mean, log_std.exp().expand_as(mean))
        return actions, gaussian_log_prob(actions, mean, log_std)

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Return the value of each observation, shape (B,)."""
        values: Tensor = self.vf.net.mlp(self.encoder.critic_encoder.net.mlp(batch[Columns.OBS]))
        return values.squeeze(-1)


def gaussian_log_prob(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log probability (nats) of actions (B, A) under independent Gaussians, shape (B,)."""
    deviations = (actions - mean) * torch.exp(-log_std)
    constant = log_std.sum() + 0.5 * math.log(2.0 * math.pi) * mean.shape[-1]
    return -0.5 * deviations.square().sum(-1) - constant


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Entropy (nats) of independent Gaussians with these log standard deviations (A,); a scalar."""
    return log_std.sum() + 0.5 * (1.0 + math.log(2.0 * math.pi)) * log_std.numel()


def _initialise_orthogonally(layer: nn.Module, gain: float) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.orthogonal_(layer.weight, gain=gain)
        nn.init.zeros_(layer.bias)
