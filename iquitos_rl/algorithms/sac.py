"""SAC: RLlib's own, with plain Q-networks and the results that the other algorithms report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import flatdim
from ray.rllib.algorithms import sac as rllib_sac
from ray.rllib.algorithms.sac.sac_catalog import SACCatalog
from ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module import DefaultSACTorchRLModule
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.core.models.configs import MLPEncoderConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.torch_utils import compute_global_norm
from torch import Tensor, nn

__all__ = ["SAC", "QNetworkCatalog", "SACConfig", "SACLearner"]


class SAC(rllib_sac.SAC):
    """Soft actor-critic with automatic temperature.

    Papers: Haarnoja et al. 2018, arXiv:1801.01290 and arXiv:1812.05905. Sampling, replay, target networks and
    losses are RLlib's. Where that differs from Stable-Baselines3, whose settings the report gives:

    - Warm-up: RLlib acts with the untrained policy, Stable-Baselines3 uniformly at random. The untrained
      policy is the tanh of a Gaussian with mean about 0 and standard deviation about 1 in every state, so it
      covers the whole action range too: a little denser where |action| is about 0.7, thinner at the ends.
    - Critic loss: Huber with threshold 1 instead of the squared error, so large errors pull linearly.
    - Adam's epsilon is 1e-7 instead of 1e-8, and the log standard deviation has no upper limit (there 2).
    """

    @classmethod
    def get_default_config(cls) -> SACConfig:  # type: ignore[override]  # as RLlib's SAC itself
        """Return the configuration."""
        return SACConfig()

    def _create_local_replay_buffer_if_necessary(self, config: Any) -> Any:
        buffer: Any = super()._create_local_replay_buffer_if_necessary(config)
        if config["seed"] is not None:  # RLlib leaves the buffer's draws unseeded
            buffer.rng = np.random.default_rng(config["seed"])
        return buffer


class SACConfig(rllib_sac.SACConfig):
    """RLlib's SAC configuration with our network and learner; every option is RLlib's."""

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or SAC)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Return RLlib's module on plain Q-networks."""
        return RLModuleSpec(module_class=DefaultSACTorchRLModule, catalog_class=QNetworkCatalog)

    def get_default_learner_class(self) -> type[SACLearner]:
        """Return the learner."""
        return SACLearner


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


class SACLearner(SACTorchLearner):
    """RLlib's learner, reporting also `entropy` (nats), `grad_norm` and `num_minibatch_updates`.

    RLlib itself reports `policy_loss`, `qf_loss`, `qf_twin_loss`, `qf_mean`, `qf_min`, `qf_max`,
    `alpha_loss`, `alpha_value`, `td_error_mean`, `total_loss`. All are means over the updates of an
    iteration, except `num_minibatch_updates`, their number.
    """

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Any:
        """Return RLlib's loss; logs the policy's entropy, estimated from the actions it samples anew."""
        loss = super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )
        entropy = -fwd_out["logp_resampled"].detach().mean()
        self.metrics.log_value((module_id, ENTROPY_KEY), entropy, window=1)
        return loss

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any = None, module_gradients_dict: dict[Any, Tensor]
    ) -> dict[Any, Tensor]:
        """Leave the gradients as they are (SAC does not clip); logs their global L2 norm."""
        norm = compute_global_norm(list(module_gradients_dict.values()))
        self.metrics.log_value((module_id, "grad_norm"), norm, window=1)
        return module_gradients_dict

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move the target networks, and count the update."""
        super().after_gradient_based_update(timesteps=timesteps)
        # every learner takes part in an update, and their counts are added up
        share = 1.0 / max(1, self.config.num_learners)
        for module_id in self.module.keys():  # noqa: SIM118
            self.metrics.log_value((module_id, "num_minibatch_updates"), share, reduce="sum")
