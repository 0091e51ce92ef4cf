"""One learning task for three libraries: ours, RLlib as it is, and Stable-Baselines3, with equal settings.

Used by verify_learning.py. Each contender is built from the same `AlgorithmSettings`, learns until a number
of environment steps, and then acts without exploring. What can be set is set alike: network sizes,
activation, optimiser, learning rate, batch and minibatch, epochs, discount, number of environments,
temperature.

What stays a library's own, because it has no setting for it:

- RLlib has no A2C. Its counterpart is RLlib's PPO with one epoch over one full batch, where the probability
  ratio is 1 and nothing is clipped, without the KL penalty, and with RMSProp put in at the learner's hook.
- RLlib standardises advantages over the whole rollout (ours and Stable-Baselines3 over the minibatch), does
  not shuffle the first epoch, and starts from other first weights. Its Adam has epsilon 1e-8 in PPO (the
  others are set to that) and 1e-7 in SAC (the others have 1e-8).
- RLlib's SAC has Q-networks three layers deeper than the hidden sizes say, and Huber's loss.
- Stable-Baselines3's SAC warms up with uniform actions, the other two with the untrained policy.
- Ours and RLlib's count steps without resets and gather at least a rollout: a few samples more where episodes
  end, which in ours are a last, small minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import stable_baselines3
import torch
from gymnasium import Env
from numpy.typing import NDArray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from stable_baselines3.common.vec_env import DummyVecEnv

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.bench.stock_rllib import stock_algorithm
from iquitos_rl.config.algorithm import A2CSettings, AlgorithmSettings, PPOSettings, SACSettings

__all__ = ["Contender", "RLlib", "StableBaselines3", "our_config", "stock_config"]

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "silu": torch.nn.SiLU}
NEVER_CLIPPED = float("inf")


class Contender:
    """Something that learns on several environments at once, each with actions in [-1, 1]."""

    def learn_until(self, env_steps: int) -> int:
        """Go on learning until so many environment steps in all; returns how many they really are."""
        raise NotImplementedError

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions without exploration, shape (N, A), for observations of shape (N, O)."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what was taken."""


class RLlib(Contender):
    """An RLlib algorithm, ours or its own."""

    def __init__(self, config: AlgorithmConfig):
        # of its warnings, only the one on "the new API stack" comes, with each build
        self._algorithm: Any = config.debugging(log_level="ERROR").build_algo()
        self._env_steps = 0

    def learn_until(self, env_steps: int) -> int:
        """Whole iterations until the steps are reached."""
        while self._env_steps < env_steps:
            self._env_steps = int(self._algorithm.train()["num_env_steps_sampled_lifetime"])
        return self._env_steps

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mode of the policy's distribution, cut to the bounds."""
        module = self._algorithm.get_module(DEFAULT_MODULE_ID)
        with torch.no_grad():
            outputs = module.forward_inference({Columns.OBS: torch.from_numpy(observations)})
        distribution = module.get_inference_action_dist_cls().from_logits(outputs[Columns.ACTION_DIST_INPUTS])
        actions: NDArray[np.float32] = distribution.to_deterministic().sample().numpy()
        return np.clip(actions, -1.0, 1.0)

    def close(self) -> None:
        """End the algorithm's runners."""
        self._algorithm.stop()


class StableBaselines3(Contender):
    """A model of Stable-Baselines3."""

    def __init__(
        self, settings: AlgorithmSettings, make: Callable[[], Env[Any, Any]], num_envs: int, seed: int
    ):
        environments = DummyVecEnv([make] * num_envs)
        shared: dict[str, Any] = {
            "policy": "MlpPolicy",
            "env": environments,
            "learning_rate": settings.learning_rate,
            "gamma": settings.gamma,
            "seed": seed,
            "device": "cpu",
        }
        hidden = list(settings.hidden)
        policy: dict[str, Any] = {"activation_fn": ACTIVATIONS[settings.activation]}
        if isinstance(settings, SACSettings):
            self._model: Any = stable_baselines3.SAC(
                **shared,
                batch_size=settings.batch_size,
                buffer_size=settings.buffer_size,
                learning_starts=settings.warmup_steps,
                train_freq=1,
                gradient_steps=-1,  # one for each step of each environment
                tau=settings.tau,
                ent_coef=f"auto_{settings.initial_alpha}",
                policy_kwargs=policy | {"net_arch": hidden},
            )
            return
        shared |= {
            "n_steps": settings.n_steps // num_envs,
            "gae_lambda": settings.gae_lambda,
            "vf_coef": settings.value_coefficient,
            "ent_coef": settings.entropy_coefficient.start,
            "max_grad_norm": settings.max_grad_norm,
            "normalize_advantage": settings.normalize_advantage,
        }
        policy["net_arch"] = {"pi": hidden, "vf": hidden}
        if isinstance(settings, A2CSettings):
            policy |= {"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": _rmsprop(settings)}
            self._model = stable_baselines3.A2C(**shared, policy_kwargs=policy)
        else:
            policy["optimizer_kwargs"] = {"eps": settings.adam_epsilon}
            self._model = stable_baselines3.PPO(
                **shared,
                batch_size=settings.minibatch_size or settings.n_steps,
                n_epochs=settings.epochs,
                clip_range=settings.clip_range,
                target_kl=settings.target_kl,
                policy_kwargs=policy,
            )

    def learn_until(self, env_steps: int) -> int:
        """Whole rollouts until the steps are reached."""
        if env_steps > self._model.num_timesteps:
            more = env_steps - self._model.num_timesteps
            self._model.learn(more, reset_num_timesteps=self._model.num_timesteps == 0)
        return int(self._model.num_timesteps)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mode of the policy's distribution, cut to the bounds."""
        actions: NDArray[np.float32] = self._model.predict(observations, deterministic=True)[0]
        return actions


def our_config(settings: AlgorithmSettings, env: str, num_envs: int, seed: int) -> AlgorithmConfig:
    """The configuration that `iquitos-rl train` makes; A2C with the one full batch that the others take."""
    config = build_algorithm_config(settings, env=env, env_config={}, num_envs=num_envs, seed=seed)
    return config.training(minibatch_size=None) if isinstance(settings, A2CSettings) else config


class RMSPropLearner(PPOTorchLearner):
    """RLlib's learner with A2C's optimiser."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register RMSProp with the values of `learner_config_dict`."""
        config = config or self.config
        params = self.get_parameters(self.module[module_id])
        optimizer = torch.optim.RMSprop(params, **config.learner_config_dict)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr
        )


def stock_config(settings: AlgorithmSettings, env: str, num_envs: int, seed: int) -> AlgorithmConfig:
    """RLlib's own algorithm: its env runner, connectors, modules, learner and replay buffer."""
    config = stock_algorithm(settings)
    if not isinstance(settings, SACSettings):
        clip = settings.clip_range if isinstance(settings, PPOSettings) else NEVER_CLIPPED
        config.training(clip_param=clip, vf_clip_param=NEVER_CLIPPED)  # type: ignore[call-arg] # PPO's own
    if isinstance(settings, A2CSettings):
        config.learners(learner_class=RMSPropLearner, learner_config_dict=_rmsprop(settings))
    config.environment(env=env, normalize_actions=True, clip_actions=False)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs, gym_env_vectorize_mode="sync")
    config.learners(num_learners=0)
    config.debugging(seed=seed)
    return config


def _rmsprop(settings: A2CSettings) -> dict[str, Any]:
    return {"alpha": settings.rmsprop_alpha, "eps": settings.rmsprop_epsilon}
