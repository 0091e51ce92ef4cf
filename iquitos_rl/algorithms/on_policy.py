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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.algorithms import ppo as rllib_ppo
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    TIMERS,
)
from torch import Tensor, nn

from iquitos_rl.algorithms.actor_critic import (
    LOG_STD,
    MEAN,
    ActorCriticModule,
    actor_critic_model,
    gaussian_entropy,
    gaussian_log_prob,
)
from iquitos_rl.algorithms.advantages import generalised_advantages
from iquitos_rl.algorithms.batched_env_runner import BatchedEnvRunner
from iquitos_rl.algorithms.env_runner_checks import check_env_runner_config
from iquitos_rl.algorithms.errors import NonFiniteGradientError
from iquitos_rl.algorithms.fragment import Fragment
from iquitos_rl.algorithms.minibatches import ShuffledMinibatches
from iquitos_rl.algorithms.sampling import FragmentSampling

__all__ = ["OnPolicyAlgorithm", "OnPolicyConfig", "OnPolicyLearner"]

APPROX_KL = "approx_kl"
PREDICTED_VALUES = "predicted_values"


class OnPolicyConfig(rllib_ppo.PPOConfig):
    """RLlib's PPO configuration without what neither algorithm wants, plus `normalize_advantage`.

    Off: the adaptive KL penalty, and the clipping of the squared value error at 10 (`vf_clip_param`), which
    silences the critic as soon as returns are larger than about 3.
    """

    # RLlib declares them as None
    minibatch_size: Any
    grad_clip: Any
    env_runner_cls: Any

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class)
        self.use_kl_loss = False
        self.kl_coeff = 0.0
        self.grad_clip_by = "global_norm"
        self.vf_clip_param = float("inf")
        self.normalize_advantage = False
        self.env_runner_cls = BatchedEnvRunner
        # The learner looks at the gradients' norm instead, and never gets as far as applying one that is not.
        self.torch_skip_nan_gradients = True
        self.rl_module(model_config=actor_critic_model([64, 64], "tanh"))

    def training(self, *, normalize_advantage: Any = NotProvided, **kwargs: Any) -> OnPolicyConfig:
        """Set training options: `normalize_advantage` (bool, per minibatch), and all of RLlib's PPO."""
        super().training(**kwargs)
        if normalize_advantage is not NotProvided:
            self.normalize_advantage = normalize_advantage
        return self

    def validate(self) -> None:
        """Check the options; raises ValueError."""
        super().validate()
        check_env_runner_config(self)
        model = self.model_config
        for key, value, needed in (
            ("use_kl_loss", self.use_kl_loss, False),
            ("vf_clip_param", self.vf_clip_param, float("inf")),
            ("use_critic", self.use_critic, True),
            ("use_gae", self.use_gae, True),
            ("grad_clip_by", self.grad_clip_by, "global_norm"),
            ("model_config: vf_share_layers", model.get("vf_share_layers"), False),
            ("model_config: free_log_std", model.get("free_log_std"), True),
            ("model_config: use_lstm", model.get("use_lstm", False), False),
        ):
            if value != needed:
                raise ValueError(f"{key} = {value!r}: A2C and PPO here have {needed!r} only")

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Return the network both algorithms use."""
        return RLModuleSpec(module_class=ActorCriticModule)


class OnPolicyAlgorithm(FragmentSampling, rllib_ppo.PPO):
    """RLlib's PPO, its training step on fragments: sample, learn, send the new weights to the runners."""

    def training_step(self) -> None:
        """One rollout and one update. Raises what the runners and the learner raise."""
        fragments = self.sample_fragments(self.config.total_train_batch_size)
        # RLlib counts minibatches with it, also if it is None.
        size = self.config.minibatch_size
        minibatches = {} if size is None else {"minibatch_size": size}
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                episodes=fragments,
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.env_steps_sampled()},
                num_epochs=self.config.num_epochs,
                **minibatches,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.sync_weights(results)


class OnPolicyLearner(PPOTorchLearner):
    """The update of A2C and PPO; each of them adds its policy loss and its optimiser.

    RLlib's loop over minibatches calls the methods here. What it would do besides, for each of them and each
    parameter, is left out: it looks at every gradient twice for finite numbers (here: once at their norm) and
    notes the same numbers of steps again and again (here: once for an update).

    Results per module and update, means over its minibatches unless said otherwise: `policy_loss`, `vf_loss`,
    `entropy` (nats), `total_loss`, `approx_kl` (nats), `grad_norm` (before clipping), `vf_explained_var`
    (before the update), `curr_entropy_coeff`, `num_minibatch_updates` (gradient steps taken).
    """

    config: Any
    _module: Any
    _minibatches: ShuffledMinibatches

    def build(self) -> None:
        """Build RLlib's PPO learner."""
        super().build()
        self._statistics: dict[str, list[Tensor]] = defaultdict(list)
        self._minibatch_updates = 0
        self._env_steps = 0
        self._one_step = False

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
        self._env_steps = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        for module_id in self.module.keys():  # noqa: SIM118 (a MultiRLModule is no mapping)
            self.entropy_coeff_schedulers_per_module[module_id].update(timestep=self._env_steps)
        self._statistics.clear()
        self._minibatch_updates = 0

    def _make_batch_if_necessary(self, training_data: Any) -> MultiAgentBatch:
        """Fragments as one batch of samples with advantages and value targets; batches as RLlib does."""
        if training_data.episodes is None:
            batch: MultiAgentBatch = super()._make_batch_if_necessary(training_data)
            return batch
        parts = [self._columns(fragment) for fragment in training_data.episodes]
        columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        # of the critic as it was during the rollout, before this update
        targets = columns[Postprocessing.VALUE_TARGETS]
        unexplained = columns[Postprocessing.ADVANTAGES].var(correction=0)
        explained = 1.0 - unexplained / targets.var(correction=0).clamp(min=1e-8)
        self.metrics.log_value((DEFAULT_MODULE_ID, "vf_explained_var"), explained, window=1)
        return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=len(targets))

    def _columns(self, fragment: Fragment) -> dict[str, Tensor]:
        """The real steps of a fragment, shape (steps, ...), on the learner's device."""
        module: Any = self._module[DEFAULT_MODULE_ID].unwrapped()
        observations = _tensor(fragment.observations).to(self._device)
        rows, environments, size = observations.shape
        with torch.set_grad_enabled(self._one_step):
            predicted = module.compute_values({Columns.OBS: observations.reshape(-1, size)})
        predicted = predicted.reshape(rows, environments)
        values = predicted.detach().cpu().numpy()
        advantages = generalised_advantages(fragment, values, self.config.gamma, self.config.lambda_)
        numbers = {
            Columns.ACTIONS: fragment.actions,
            Columns.ACTION_LOGP: fragment.log_probs,
            Postprocessing.ADVANTAGES: advantages,
            Postprocessing.VALUE_TARGETS: advantages + values[:-1],
        }
        columns = {Columns.OBS: observations[:-1]}
        columns |= {name: _tensor(array).to(self._device) for name, array in numbers.items()}
        if self._one_step:
            columns[PREDICTED_VALUES] = predicted[:-1]
        if fragment.real.all():
            return {name: column.flatten(0, 1) for name, column in columns.items()}
        real = _tensor(fragment.real).to(self._device)
        return {name: column[real] for name, column in columns.items()}

    def _create_iterator_if_necessary(
        self,
        *,
        training_data: Any,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        **kwargs: Any,
    ) -> ShuffledMinibatches:
        steps = sum(map(len, training_data.episodes or [training_data.batch]))
        whole = minibatch_size is None or minibatch_size >= steps
        # A single gradient step over the whole rollout: the values for the advantages are those of the loss.
        self._one_step = whole and num_epochs == 1 and training_data.episodes is not None
        batch = self._make_batch_if_necessary(training_data)
        super()._log_steps_trained_metrics(batch)
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

    def _log_steps_trained_metrics(self, batch: MultiAgentBatch) -> None:
        """Nothing for each minibatch: the steps of the rollout are logged once for an update."""

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
        log_prob = gaussian_log_prob(batch[Columns.ACTIONS], fwd_out[MEAN], fwd_out[LOG_STD])
        log_ratio = log_prob - batch[Columns.ACTION_LOGP]
        ratio = log_ratio.exp()

        advantages: Tensor = batch[Postprocessing.ADVANTAGES]
        if config.normalize_advantage and len(advantages) > 1:  # one sample has no standard deviation
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy_loss = self.policy_loss(advantages, log_prob, ratio)

        values = batch[PREDICTED_VALUES] if self._one_step else module.compute_values(batch)
        value_loss = nn.functional.mse_loss(values, batch[Postprocessing.VALUE_TARGETS])
        entropy = gaussian_entropy(fwd_out[LOG_STD])
        entropy_coefficient = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        loss: Tensor = policy_loss + config.vf_loss_coeff * value_loss - entropy_coefficient * entropy

        for name, value in (
            (POLICY_LOSS_KEY, policy_loss),
            (VF_LOSS_KEY, value_loss),
            (ENTROPY_KEY, entropy),
            (self.TOTAL_LOSS_KEY, loss),
            # unbiased and never negative, see http://joschu.net/blog/kl-approx.html
            (APPROX_KL, ((ratio - 1) - log_ratio).mean()),
        ):
            self._statistics[name].append(value.detach())
        return loss

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any = None, module_gradients_dict: dict[Any, Any]
    ) -> dict[Any, Any]:
        """Scale all gradients together to a global L2 norm of at most `grad_clip`.

        Raises:
            NonFiniteGradientError: one of them is NaN or infinite; none was applied.
        """
        gradients = [gradient for gradient in module_gradients_dict.values() if gradient is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise NonFiniteGradientError(
                type(self).__name__.removesuffix("Learner"),
                self._weights_seq_no,
                self._env_steps,
                {name: float(values[-1]) for name, values in self._statistics.items() if values},
            )
        if config.grad_clip is not None:
            # the dictionary's keys are the parameters
            nn.utils.clip_grads_with_norm_(module_gradients_dict, config.grad_clip, norm)
        self._statistics["grad_norm"].append(norm)
        return module_gradients_dict

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Report the means over the minibatches of this update."""
        super().after_gradient_based_update(timesteps=timesteps)
        for name, values in self._statistics.items():
            self.metrics.log_value((DEFAULT_MODULE_ID, name), torch.stack(values).mean(), window=1)
        self.metrics.log_value(
            (DEFAULT_MODULE_ID, "num_minibatch_updates"), self._minibatch_updates, window=1
        )


def _tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor; a copy of one that Ray's object store shares read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
