"""SAC's networks: RLlib's module on plain Q-networks, with a training pass that computes nothing twice."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium.spaces import flatdim
from ray.rllib.algorithms.sac.sac_catalog import SACCatalog
from ray.rllib.algorithms.sac.sac_learner import QF_PREDS, QF_TWIN_PREDS
from ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module import DefaultSACTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.core.models.configs import MLPEncoderConfig
from ray.rllib.utils.numpy import MAX_LOG_NN_OUTPUT, MIN_LOG_NN_OUTPUT
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NEXT_NOISE", "NOISE", "QNetworkCatalog", "SACModule", "squashed_gaussian"]

NOISE = "noise"
NEXT_NOISE = "next_noise"
"""Columns of a batch with the standard normal draws that make actions, shape (B, A)."""


class QNetworkCatalog(SACCatalog):
    """Q-networks that read observation and action side by side in one MLP of the configured layers.

    This is what "hidden [256, 256]" means in the SAC papers and in Stable-Baselines3. RLlib's default runs
    observation and action each through an MLP of that size and fuses them in a third, tanh MLP of two more
    256-unit layers: three layers deeper than stated, and three times as slow.
    """

    def _build_qf_encoder_continuous(self, framework: str) -> Any:
        hidden = self._model_config_dict["fcnet_hiddens"]
        activation = self._model_config_dict["fcnet_activation"]
        config = MLPEncoderConfig(
            input_dims=[sum(flatdim(space) for space in (self.observation_space, self.action_space))],
            hidden_layer_dims=hidden[:-1],
            hidden_layer_activation=activation,
            output_layer_dim=hidden[-1],
            output_layer_activation=activation,
        )
        return _ObservationActionEncoder(config.build(framework=framework))


class _ObservationActionEncoder(nn.Module):
    def __init__(self, mlp: nn.Module):
        super().__init__()
        self.mlp = mlp

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        joined = torch.cat((batch[Columns.OBS], batch[Columns.ACTIONS]), dim=-1)
        return {ENCODER_OUT: self.mlp({Columns.OBS: joined})[ENCODER_OUT]}


class SACModule(DefaultSACTorchRLModule):
    """RLlib's SAC module with the same parameters, names and outputs, trained in fewer operations.

    What RLlib computes and this does not: gradients through the target's pass, and the critics' first layer
    on the observation a second time for the policy's actions. That layer is linear, so its result for other
    actions is the one at hand plus the weights of the actions times their change. In return, the policy's
    gradient passes through those few weights only, and not through those of the observation.
    """

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return values and log probabilities for the losses, each of shape (B,).

        Args:
            batch: observations, actions, next observations, and standard normal noise for both policies.

        Returns:
            `qf_preds`, `qf_twin_preds` (values of the actions taken; gradient to the critics), `q_curr`
            (the smaller value of the policy's own actions; gradient to the policy alone), `logp_resampled`
            (their log probability), `q_target_next` and `logp_next_resampled` (of the policy's actions in the
            next state, target critics; no gradient).
        """
        observations, actions = batch[Columns.OBS], batch[Columns.ACTIONS]
        with torch.no_grad():
            next_observations = batch[Columns.NEXT_OBS]
            next_actions, next_log_prob = squashed_gaussian(
                self._action_logits(next_observations), batch[NEXT_NOISE]
            )
            joined = torch.cat((next_observations, next_actions), dim=-1)
            target = torch.minimum(
                _run(_layers(self.target_qf_encoder, self.target_qf), joined),
                _run(_layers(self.target_qf_twin_encoder, self.target_qf_twin), joined),
            )
        new_actions, log_prob = squashed_gaussian(self._action_logits(observations), batch[NOISE])
        change = new_actions - actions
        joined = torch.cat((observations, actions), dim=-1)
        value, new_value = _values_of_both(_layers(self.qf_encoder, self.qf), joined, change)
        twin, new_twin = _values_of_both(_layers(self.qf_twin_encoder, self.qf_twin), joined, change)
        return {
            QF_PREDS: value,
            QF_TWIN_PREDS: twin,
            "q_curr": torch.minimum(new_value, new_twin),
            "logp_resampled": log_prob,
            "q_target_next": target,
            "logp_next_resampled": next_log_prob,
        }

    def _action_logits(self, observations: Tensor) -> Tensor:
        logits: Tensor = self.pi(self.pi_encoder({Columns.OBS: observations})[ENCODER_OUT])
        return logits


def squashed_gaussian(logits: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions tanh(mean + std x noise) and their log probability, as RLlib's `TorchSquashedGaussian`.

    The density is that of the Gaussian divided by tanh's slope, 1 - tanh(x)^2 = 4 / (exp(x) + exp(-x))^2,
    written so that it does not vanish for large |x| (Haarnoja et al. 2018, arXiv:1801.01290, appendix C).

    Args:
        logits: means, then log standard deviations, shape (B, 2A); the latter count within [-5, 2].
        noise: standard normal, shape (B, A).

    Returns:
        Actions in [-1, 1], shape (B, A), and log probabilities in nats, shape (B,).
    """
    mean, log_std = logits.chunk(2, dim=-1)
    log_std = log_std.clamp(MIN_LOG_NN_OUTPUT, MAX_LOG_NN_OUTPUT)
    unsquashed = torch.addcmul(mean, log_std.exp(), noise)
    log_slope = 2.0 * (math.log(2.0) - unsquashed - functional.softplus(-2.0 * unsquashed))
    log_prob = -(0.5 * noise.square() + log_std + log_slope).sum(-1)
    return torch.tanh(unsquashed), log_prob - 0.5 * math.log(2.0 * math.pi) * noise.shape[-1]


def _layers(encoder: Any, head: Any) -> list[nn.Module]:
    return [*encoder.mlp.net.mlp, *head.net.mlp]


def _run(layers: list[nn.Module], inputs: Tensor) -> Tensor:
    for layer in layers:
        inputs = layer(inputs)
    return inputs.squeeze(-1)


def _values_of_both(layers: list[nn.Module], joined: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Values of observations with their actions, and with actions changed by ``change``.

    The first has a gradient to the weights alone, the second to ``change`` alone.
    """
    first: Any = layers[0]
    hidden = first(joined)
    weights_of_actions = first.weight.detach()[:, -change.shape[-1] :]
    changed = hidden.detach() + functional.linear(change, weights_of_actions)
    for layer in layers[1:]:
        if isinstance(layer, nn.Linear):
            changed = functional.linear(changed, layer.weight.detach(), layer.bias.detach())
        else:
            changed = layer(changed)
    return _run(layers[1:], hidden), changed.squeeze(-1)
