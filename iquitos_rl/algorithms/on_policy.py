"""What A2C and PPO share on RLlib's new API stack: network, advantages, minibatches and the update.

Both gather `n_steps` transitions, estimate advantages once, and take gradient steps on shuffled minibatches
of one loss: policy loss + value error - entropy bonus. RLlib's PPO supplies sampling, schedules and
checkpoints; replaced here is what it does differently from Stable-Baselines3, whose numbers the report gives:

- RLlib standardises advantages over the whole rollout; here that is per minibatch, and only where asked for.
- RLlib's minibatches wrap around (the last one is filled up from the start), include the artificial bootstrap
  rows, and the first epoch is not shuffled; here every sample comes exactly once per epoch.
- RLlib reports the last minibatch's statistics; here they are means over the update.
- RLlib's entropy schedule starts again for one update after a restore; here it depends on the steps alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo import PPOConfig as RLlibPPOConfig
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.learner import GeneralAdvantageEstimation
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets
from ray.rllib.utils.torch_utils import clip_gradients, compute_global_norm
from torch import Tensor, nn

__all__ = [
    "ActorCriticModule",
    "AdvantageEstimation",
    "OnPolicyConfig",
    "OnPolicyLearner",
    "ShuffledMinibatches",
]


class OnPolicyConfig(RLlibPPOConfig):
    """RLlib's PPO configuration without what neither algorithm wants, plus `normalize_advantage`.

    Off: the adaptive KL penalty, and the clipping of the squared value error at 10 (`vf_clip_param`), which
    silences the critic as soon as returns are larger than about 3.
    """

    # RLlib declares them as None
    minibatch_size: Any
    grad_clip: Any

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class)
        self.use_kl_loss = False
        self.kl_coeff = 0.0
        self.vf_clip_param = float("inf")
        self.normalize_advantage = False

    def training(self, *, normalize_advantage: Any = NotProvided, **kwargs: Any) -> OnPolicyConfig:
        """Set training options: `normalize_advantage` (bool, per minibatch), and all of RLlib's PPO."""
        super().training(**kwargs)
        if normalize_advantage is not NotProvided:
            self.normalize_advantage = normalize_advantage
        return self

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Return the network both algorithms use."""
        return RLModuleSpec(module_class=ActorCriticModule)


class ActorCriticModule(DefaultPPOTorchRLModule):
    """Separate actor and critic MLPs with Stable-Baselines3's start: orthogonal weights, zero biases.

    Gains are sqrt(2) for hidden layers, 0.01 for the action means (the first policy is centred and nearly the
    same in every state) and 1 for the value. The log standard deviations are free parameters at 0.
    """

    def setup(self) -> None:
        """Build the networks from the model config, then set their first weights."""
        super().setup()
        for network, gain in ((self.encoder, 2**0.5), (self.pi, 0.01), (self.vf, 1.0)):
            network.apply(partial(_initialise_orthogonally, gain=gain))


def _initialise_orthogonally(layer: nn.Module, gain: float) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.orthogonal_(layer.weight, gain=gain)
        nn.init.zeros_(layer.bias)


class AdvantageEstimation(ConnectorV2):
    """Last piece of the learner's pipeline: advantages and value targets, not standardised.

    Generalised advantage estimation (Schulman et al. 2015, arXiv:1506.02438). RLlib lengthens each episode
    piece by one artificial row that holds the observation after its last step. A piece that was truncated, or
    merely cut by the end of the rollout, is bootstrapped with the value of that row; a terminated one with 0.
    Afterwards the artificial rows are dropped, so that a batch has exactly one row per environment step, and
    only the columns that the loss reads are kept.

    Args:
        input_observation_space: Set by RLlib.
        input_action_space: Set by RLlib.
        gamma: Discount per step, 0-1.
        lambda_: 0 (one-step differences) to 1 (discounted returns), see Schulman et al.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        gamma: float,
        lambda_: float,
    ):
        super().__init__(input_observation_space, input_action_space)
        self.gamma = gamma
        self.lambda_ = lambda_

    def __call__(self, *, rl_module: Any, batch: dict[str, Any], metrics: Any = None, **kwargs: Any) -> Any:
        """Replace each module's columns by obs, actions, action_logp, advantages and value_targets."""
        for module_id, columns in batch.items():
            with torch.no_grad():
                values = rl_module[module_id].unwrapped().compute_values(columns).cpu().numpy()
            targets = compute_value_targets(
                values,
                columns[Columns.REWARDS].cpu().numpy(),
                columns[Columns.TERMINATEDS].cpu().numpy(),
                columns[Columns.TRUNCATEDS].cpu().numpy(),
                gamma=self.gamma,
                lambda_=self.lambda_,
            )
            real = columns[Columns.LOSS_MASK]
            batch[module_id] = {
                column: columns[column][real]
                for column in (Columns.OBS, Columns.ACTIONS, Columns.ACTION_LOGP)
            }
            device = real.device
            batch[module_id][Postprocessing.ADVANTAGES] = torch.from_numpy(targets - values).to(device)[real]
            batch[module_id][Postprocessing.VALUE_TARGETS] = torch.from_numpy(targets).to(device)[real]
            if metrics is not None:
                rows = real.cpu().numpy()
                # of the critic as it was during the rollout, before this update
                unexplained = np.var(targets[rows] - values[rows]) / max(np.var(targets[rows]), 1e-8)
                metrics.log_value((module_id, "vf_explained_var"), 1.0 - float(unexplained), window=1)
        return batch


class ShuffledMinibatches:
    """Every sample exactly once per epoch, in an order drawn anew for each epoch.

    2,048 samples in minibatches of 146 are 14 full ones and a last one of 4.

    Args:
        batch: One module's samples, all columns tensors of the same first dimension.
        minibatch_size: Samples per minibatch, >= 1.
        epochs: Passes over the batch, >= 1.
        rng: Draws the orders.
        minibatches_per_epoch: Where each epoch ends at the latest; None = with the last sample. Several
            learners must agree on it, for each waits for the others at every minibatch.
    """

    def __init__(
        self,
        batch: MultiAgentBatch,
        *,
        minibatch_size: int,
        epochs: int,
        rng: np.random.Generator,
        minibatches_per_epoch: int | None = None,
    ):
        ((self._module_id, self._samples),) = batch.policy_batches.items()
        self._minibatch_size = minibatch_size
        self._epochs = epochs
        self._rng = rng
        count = -(-len(self._samples) // minibatch_size)
        self.minibatches_per_epoch = count if minibatches_per_epoch is None else minibatches_per_epoch
        self._stopped = False

    def stop(self) -> None:
        """Yield no further minibatch, in this epoch or a later one."""
        self._stopped = True

    def __iter__(self) -> Iterator[MultiAgentBatch]:
        columns = dict(self._samples)
        for _ in range(self._epochs):
            order = torch.from_numpy(self._rng.permutation(len(self._samples)))
            for rows in order.split(self._minibatch_size)[: self.minibatches_per_epoch]:
                if self._stopped:
                    return
                minibatch = {name: column[rows.to(column.device)] for name, column in columns.items()}
                yield MultiAgentBatch({self._module_id: SampleBatch(minibatch)}, env_steps=len(rows))


class OnPolicyLearner(PPOTorchLearner):
    """The update of A2C and PPO; each of them adds its policy loss and its optimiser.

    Results per module and update, means over its minibatches unless said otherwise: `policy_loss`, `vf_loss`,
    `entropy` (nats), `total_loss`, `approx_kl` (nats), `grad_norm` (before clipping), `vf_explained_var`
    (before the update), `curr_entropy_coeff`, `num_minibatch_updates` (gradient steps taken).
    """

    config: Any
    _module: Any
    _learner_connector: Any
    _minibatches: ShuffledMinibatches

    def build(self) -> None:
        """Build RLlib's PPO learner, with our advantage estimation in place of its own."""
        super().build()
        self._statistics: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self._approx_kl = torch.tensor(0.0)
        self._minibatch_updates = 0
        self._learner_connector.remove(GeneralAdvantageEstimation)
        self._learner_connector.append(
            AdvantageEstimation(gamma=self.config.gamma, lambda_=self.config.lambda_)
        )

    def policy_loss(self, advantages: Tensor, log_prob: Tensor, ratio: Tensor) -> Tensor:
        """Return the scalar to minimise.

        Args:
            advantages: One per sample, normalised if so configured.
            log_prob: Log probability of each action under the policy being trained.
            ratio: Its probability divided by that under the policy which took the action.
        """
        raise NotImplementedError

    def policy_moved_too_far(self) -> bool:
        """Tell whether the minibatch at hand, and all later ones, must not be applied."""
        return False

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Set the entropy coefficient from the environment steps sampled so far, and clear the statistics."""
        super().before_gradient_based_update(timesteps=timesteps)
        env_steps = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        for module_id in self.module.keys():  # noqa: SIM118 (a MultiRLModule is no mapping)
            self.entropy_coeff_schedulers_per_module[module_id].update(timestep=env_steps)
        self._statistics.clear()
        self._minibatch_updates = 0

    def _create_iterator_if_necessary(
        self,
        *,
        training_data: Any,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        **kwargs: Any,
    ) -> ShuffledMinibatches:
        batch = self._make_batch_if_necessary(training_data=training_data)
        size = minibatch_size or batch.count
        # The orders follow from the seed and the number of the update, so a restored run draws the same ones.
        seed = self.config.seed
        rng = np.random.default_rng(None if seed is None else [seed, self._weights_seq_no])
        self._minibatches = ShuffledMinibatches(
            batch,
            minibatch_size=size,
            epochs=num_epochs,
            rng=rng,
            minibatches_per_epoch=self._agreed_minibatches(batch.count, size),
        )
        return self._minibatches

    def _agreed_minibatches(self, samples: int, minibatch_size: int) -> int:
        count = torch.tensor(-(-samples // minibatch_size), device=self._device)
        if self.config.num_learners > 1:
            torch.distributed.all_reduce(count, op=torch.distributed.ReduceOp.MIN)
        return int(count)

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        fwd_out = self.module.forward_train(batch)
        loss_per_module = self.compute_losses(fwd_out=fwd_out, batch=batch)
        if self.policy_moved_too_far():
            self._minibatches.stop()
        else:
            gradients = self.compute_gradients(loss_per_module)
            self.apply_gradients(self.postprocess_gradients(gradients))
            self._minibatch_updates += 1
        return fwd_out, loss_per_module, {}

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """Return policy loss + value_coefficient x squared value error - entropy_coefficient x entropy."""
        module: Any = self._module[module_id].unwrapped()
        distribution = module.get_train_action_dist_cls().from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        log_prob: Tensor = distribution.logp(batch[Columns.ACTIONS])
        log_ratio = log_prob - batch[Columns.ACTION_LOGP]
        ratio = log_ratio.exp()

        advantages: Tensor = batch[Postprocessing.ADVANTAGES]
        if config.normalize_advantage and len(advantages) > 1:  # one sample has no standard deviation
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy_loss = self.policy_loss(advantages, log_prob, ratio)

        values = module.compute_values(batch, embeddings=fwd_out.get(Columns.EMBEDDINGS))
        value_loss = nn.functional.mse_loss(values, batch[Postprocessing.VALUE_TARGETS])
        entropy = distribution.entropy().mean()
        entropy_coefficient = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        loss: Tensor = policy_loss + config.vf_loss_coeff * value_loss - entropy_coefficient * entropy

        # unbiased and never negative, see http://joschu.net/blog/kl-approx.html
        self._approx_kl = ((ratio - 1) - log_ratio).detach().mean()
        for name, value in (
            (POLICY_LOSS_KEY, policy_loss),
            (VF_LOSS_KEY, value_loss),
            (ENTROPY_KEY, entropy),
            (self.TOTAL_LOSS_KEY, loss),
            ("approx_kl", self._approx_kl),
        ):
            self._statistics[module_id, name].append(value.detach())
        return loss

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any = None, module_gradients_dict: dict[Any, Any]
    ) -> dict[Any, Any]:
        """Scale all gradients together to a global L2 norm of at most `grad_clip`."""
        norm: Any
        if config.grad_clip is None:
            norm = compute_global_norm(list(module_gradients_dict.values()))
        else:
            norm = clip_gradients(
                module_gradients_dict, grad_clip=config.grad_clip, grad_clip_by="global_norm"
            )
        self._statistics[module_id, "grad_norm"].append(norm)
        return module_gradients_dict

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Report the means over the minibatches of this update."""
        super().after_gradient_based_update(timesteps=timesteps)
        for key, values in self._statistics.items():
            self.metrics.log_value(key, torch.stack(values).mean(), window=1)
        for module_id in self.module.keys():  # noqa: SIM118
            self.metrics.log_value((module_id, "num_minibatch_updates"), self._minibatch_updates, window=1)
