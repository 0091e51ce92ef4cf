"""SAC's update: RLlib's losses, one backward pass, one check, and target networks that follow every time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.sac.sac_learner import (
    QF_LOSS_KEY,
    QF_MAX_KEY,
    QF_MEAN_KEY,
    QF_MIN_KEY,
    QF_PREDS,
    QF_TWIN_LOSS_KEY,
    QF_TWIN_PREDS,
    TD_ERROR_MEAN_KEY,
)
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor, nn
from torch.nn import functional

from iquitos_rl.algorithms.errors import NonFiniteGradientError
from iquitos_rl.algorithms.sac_module import NEXT_NOISE, NOISE

__all__ = ["SACLearner"]

LOG_ALPHA = "log_alpha"
UPDATES = "num_updates"


class SACLearner(SACTorchLearner):
    """Takes one gradient step per minibatch, on the losses and with the hooks of RLlib's learner.

    Different from RLlib's: the loss of the critics as configured, one backward pass of the summed losses (no
    part of one reaches the parameters of another), the temperature's gradient averaged over the learners
    like all others, a gradient that is not finite stops training, noise drawn from the seed and the number of
    the update, and temperature and that number are in the state.

    Results are means over the updates of an iteration: `policy_loss`, `qf_loss`, `qf_twin_loss`,
    `alpha_loss`, `total_loss`, `alpha_value`, `entropy` (nats, of the actions it samples anew), `qf_mean`,
    `qf_min`, `qf_max` (of those actions), `td_error_mean`, `grad_norm` (global L2). `target_entropy` (nats)
    is constant and `num_minibatch_updates` their number.
    """

    config: Any
    _module: Any
    curr_log_alpha: dict[str, Any]
    target_entropy: dict[str, Any]

    def build(self) -> None:
        """Build RLlib's learner."""
        super().build()
        self._updates = 0
        self._env_steps = 0
        self._losses: dict[str, Tensor] = {}
        self._statistics: dict[str, list[dict[str, Tensor]]] = {}
        seed: Any = np.random.SeedSequence().entropy if self.config.seed is None else self.config.seed
        self._noise_seed: int = seed
        self._generator = torch.Generator(device=self._device)

    def _make_modules_ddp_if_necessary(self) -> None:
        # Gradients are averaged in compute_gradients instead, with that of the temperature, which is no
        # parameter of the module. What DDP does besides is to let all learners start from the same weights.
        if self._averages_gradients:
            for parameter in self._params.values():
                torch.distributed.broadcast(parameter.data, src=0)

    @property
    def _averages_gradients(self) -> bool:
        return self.config.num_learners > 1

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register RLlib's four optimisers, as fused Adam with torch's default epsilon, 1e-8."""
        module = self._module[module_id].unwrapped()
        for name, networks, learning_rate in (
            ("qf", (module.qf_encoder, module.qf), config.critic_lr),
            ("qf_twin", (module.qf_twin_encoder, module.qf_twin), config.critic_lr),
            ("policy", (module.pi_encoder, module.pi), config.actor_lr),
            ("alpha", (), config.alpha_lr),
        ):
            parameters = [p for network in networks for p in self.get_parameters(network)]
            parameters = parameters or [self.curr_log_alpha[module_id]]
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters, fused=True),
                params=parameters,
                lr_or_lr_schedule=learning_rate,
            )

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Note how far training is, and clear the statistics."""
        super().before_gradient_based_update(timesteps=timesteps)
        self._env_steps = int(timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
        self._statistics = {module_id: [] for module_id in self.module.keys()}  # noqa: SIM118

    def _create_iterator_if_necessary(
        self, *, training_data: Any, minibatch_size: int | None = None, **kwargs: Any
    ) -> Iterator[MultiAgentBatch]:
        batch = self._make_batch_if_necessary(training_data=training_data)
        super()._log_steps_trained_metrics(batch)
        return _minibatches(batch, minibatch_size or batch.count)

    def _log_steps_trained_metrics(self, batch: MultiAgentBatch) -> None:
        """Nothing for each minibatch: the steps are logged once for all of them."""

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        for rows in batch.values():
            samples, actions = rows[Columns.ACTIONS].shape
            rows[NOISE], rows[NEXT_NOISE] = self.next_noise(samples, actions, self._rank)
        self._updates += 1
        fwd_out = self.module.forward_train(batch)
        losses = self.compute_losses(fwd_out=fwd_out, batch=batch)
        self.apply_gradients(self.postprocess_gradients(self.compute_gradients(losses)))
        self._move_target_networks()
        return fwd_out, {module_id: loss.detach() for module_id, loss in losses.items()}, {}

    @property
    def _rank(self) -> int:
        return torch.distributed.get_rank() if self._averages_gradients else 0

    def next_noise(self, samples: int, actions: int, learner: int = 0) -> tuple[Tensor, Tensor]:
        """Standard normal draws for the actions of the coming update, now and next, each (samples, actions).

        From the seed, the number of the update and that of the learner alone, so a restored run draws the
        same ones.
        """
        sequence = np.random.SeedSequence([self._noise_seed, self._updates, learner])
        self._generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
        noise = torch.randn((2, samples, actions), generator=self._generator, device=self._device)
        return noise[0], noise[1]

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """Return policy loss + critic losses + temperature loss; their gradients do not mix.

        Haarnoja et al. 2018, arXiv:1812.05905, equations 5 (critics), 7 (policy) and 18 (temperature, with
        its logarithm in front as in their code).
        """
        log_alpha: Tensor = self.curr_log_alpha[module_id]
        alpha = log_alpha.detach().exp()
        target_entropy = self.target_entropy[module_id]
        log_prob, value_of_policy = fwd_out["logp_resampled"], fwd_out["q_curr"]

        next_value = fwd_out["q_target_next"] - alpha * fwd_out["logp_next_resampled"]
        going_on = 1.0 - batch[Columns.TERMINATEDS].float()
        target = batch[Columns.REWARDS] + config.gamma * going_on * next_value
        value, twin_value = fwd_out[QF_PREDS], fwd_out[QF_TWIN_PREDS]

        entropy = -log_prob.detach().mean()
        losses = {
            POLICY_LOSS_KEY: (alpha * log_prob - value_of_policy).mean(),
            QF_LOSS_KEY: _critic_loss(config.critic_loss, value, target),
            QF_TWIN_LOSS_KEY: _critic_loss(config.critic_loss, twin_value, target),
            "alpha_loss": (log_alpha * (entropy - target_entropy)).squeeze(),
        }
        total = torch.stack(tuple(losses.values())).sum()
        self._losses = {name: loss.detach() for name, loss in losses.items()}
        with torch.no_grad():
            self._statistics[module_id].append(
                {
                    **self._losses,
                    self.TOTAL_LOSS_KEY: total.detach(),
                    "alpha_value": alpha.squeeze(),
                    ENTROPY_KEY: entropy,
                    QF_MEAN_KEY: value_of_policy.mean(),
                    QF_MIN_KEY: value_of_policy.min(),
                    QF_MAX_KEY: value_of_policy.max(),
                    TD_ERROR_MEAN_KEY: 0.5 * ((value - target).abs() + (twin_value - target).abs()).mean(),
                }
            )
        return total

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> dict[Any, Tensor]:
        """Return the gradients of the summed losses, averaged over the learners."""
        gradients: dict[Any, Tensor] = TorchLearner.compute_gradients(self, loss_per_module)
        if self._averages_gradients:
            # one message for all of them
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients.values()])
            torch.distributed.all_reduce(flat)
            flat /= self.config.num_learners
            parts = flat.split([gradient.numel() for gradient in gradients.values()])
            gradients = {
                key: part.view_as(gradient)
                for (key, gradient), part in zip(gradients.items(), parts, strict=True)
            }
        return gradients

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any = None, module_gradients_dict: dict[Any, Tensor]
    ) -> dict[Any, Tensor]:
        """Leave the gradients as they are (SAC does not clip), unless they must not be applied.

        Raises:
            NonFiniteGradientError: a NaN or an infinity in them.
        """
        norm = nn.utils.get_total_norm(list(module_gradients_dict.values()))
        # Of the norm alone: one number, however many parameters.
        if not torch.isfinite(norm):
            losses = {name: float(loss) for name, loss in self._losses.items()}
            raise NonFiniteGradientError("SAC", self._updates, self._env_steps, losses)
        self._statistics[module_id][-1]["grad_norm"] = norm
        return module_gradients_dict

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        """Take one step of every optimiser."""
        for key, gradient in gradients_dict.items():
            self._params[key].grad = gradient
        for optimizer in self._named_optimizers.values():
            optimizer.step()

    @torch.no_grad()
    def _move_target_networks(self) -> None:
        for module_id in self.module.keys():  # noqa: SIM118
            config = self.config.get_config_for_module(module_id)
            pairs = self._module[module_id].unwrapped().get_target_network_pairs()
            followed = [p for network, _ in pairs for p in network.parameters()]
            targets = [p for _, target in pairs for p in target.parameters()]
            torch._foreach_lerp_(targets, followed, config.tau)

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Report the means over the updates at hand, and how many they were."""
        # Not DQN's: the targets have followed already, at every update.
        TorchLearner.after_gradient_based_update(self, timesteps=timesteps)
        # Every learner takes part in an update, and their counts are added up.
        share = 1.0 / max(1, self.config.num_learners)
        for module_id, updates in self._statistics.items():
            rows = torch.stack([torch.stack(tuple(update.values())) for update in updates])
            for name, value in zip(updates[0], rows.mean(0).tolist(), strict=True):
                self.metrics.log_value((module_id, name), value, window=1)
            target_entropy = float(self.target_entropy[module_id])
            self.metrics.log_value((module_id, "target_entropy"), target_entropy, window=1)
            self.metrics.log_value((module_id, "num_minibatch_updates"), share * len(updates), reduce="sum")

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return RLlib's state with the temperature, which it forgets, and the number of updates."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        state[LOG_ALPHA] = {
            module_id: self.curr_log_alpha[module_id].detach().cpu().numpy().copy()
            for module_id in self.module.keys()  # noqa: SIM118
        }
        state[UPDATES] = self._updates
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state; one without a temperature leaves it as it is."""
        super().set_state(state)
        with torch.no_grad():
            for module_id, value in state.get(LOG_ALPHA, {}).items():
                # In place: the optimiser holds this very tensor.
                self.curr_log_alpha[module_id].copy_(torch.tensor(value))
        self._updates = state.get(UPDATES, self._updates)


def _critic_loss(kind: str, value: Tensor, target: Tensor) -> Tensor:
    """0.5 x squared error, or beyond an error of 1 with a constant slope (Huber); mean over the batch."""
    if kind == "huber":
        return functional.huber_loss(value, target, delta=1.0)
    return 0.5 * functional.mse_loss(value, target)


def _minibatches(batch: MultiAgentBatch, size: int) -> Iterator[MultiAgentBatch]:
    """Each sample once and in order: the buffer has drawn them at random already."""
    for first in range(0, batch.count, size):
        part = {
            module_id: SampleBatch({name: column[first : first + size] for name, column in rows.items()})
            for module_id, rows in batch.policy_batches.items()
        }
        yield MultiAgentBatch(part, env_steps=min(size, batch.count - first))
