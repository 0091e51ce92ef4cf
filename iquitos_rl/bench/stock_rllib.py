"""RLlib's own PPO and SAC on the same environment with the same sizes: what ours is measured against."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from iquitos_rl.bench.workload import Workload
from iquitos_rl.config.algorithm import AlgorithmSettings, PPOSettings, SACSettings
from iquitos_rl.env import ENV_ID

__all__ = ["CPUS_PER_ENV_RUNNER", "stock_algorithm", "stock_config"]

CPUS_PER_ENV_RUNNER = 0.25
"""What an env runner reserves. Contenders take turns: those that wait take no CPU from the one that runs."""


def stock_algorithm(settings: AlgorithmSettings) -> AlgorithmConfig:
    """Return RLlib's own algorithm with these hyperparameters: its connectors, learner, modules and buffer.

    RLlib has no A2C. In its place stands RLlib's PPO with one epoch over one full batch, which is the same
    work. PPO's adaptive KL penalty, which ours has not, is off, and the replay buffer is the uniform one, not
    the slower prioritised default: both in favour of stock RLlib. SAC's Q-networks are RLlib's own, deeper
    than the hidden layers say.
    """
    config: AlgorithmConfig
    model = DefaultModelConfig(
        fcnet_hiddens=list(settings.hidden), fcnet_activation=settings.activation, head_fcnet_hiddens=[]
    )
    if isinstance(settings, SACSettings):
        config = SACConfig().training(
            gamma=settings.gamma,
            lr=None,
            actor_lr=settings.learning_rate,
            critic_lr=settings.learning_rate,
            alpha_lr=settings.learning_rate,
            tau=settings.tau,
            initial_alpha=settings.initial_alpha,
            target_entropy=settings.target_entropy,
            train_batch_size_per_learner=settings.batch_size,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": settings.buffer_size},
            num_steps_sampled_before_learning_starts=settings.warmup_steps + 1,
            # samples trained per sample gathered
            training_intensity=settings.updates_per_env_step * settings.batch_size,
        )
        # One round of all environments, rather than a second at least.
        config.reporting(
            min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=settings.steps_per_iteration
        )
    else:
        model.vf_share_layers = False
        model.free_log_std = True
        config = PPOConfig().training(
            lr=settings.learning_rate,
            gamma=settings.gamma,
            lambda_=settings.gae_lambda,
            train_batch_size_per_learner=settings.n_steps,
            minibatch_size=settings.minibatch_size if isinstance(settings, PPOSettings) else None,
            num_epochs=settings.epochs if isinstance(settings, PPOSettings) else 1,
            entropy_coeff=settings.entropy_coefficient.start,
            vf_loss_coeff=settings.value_coefficient,
            grad_clip=settings.max_grad_norm,
            use_kl_loss=False,
        )
    return config.rl_module(model_config=model)


def stock_config(
    settings: AlgorithmSettings, workload: Workload, env_config: dict[str, Any]
) -> AlgorithmConfig:
    """Return `stock_algorithm` on the registered environment, with RLlib's own env runner.

    Args:
        settings: with the sizes of the comparison.
        workload: sizes.
        env_config: of the registered environment.
    """
    config = stock_algorithm(settings)
    config.environment(env=ENV_ID, env_config=env_config, normalize_actions=True, clip_actions=False)
    config.env_runners(
        num_env_runners=workload.env_runners,
        num_envs_per_env_runner=workload.envs_per_runner,
        num_cpus_per_env_runner=CPUS_PER_ENV_RUNNER,  # type: ignore[arg-type] # fractions work
        gym_env_vectorize_mode="vector_entry_point",
    )
    config.debugging(seed=0)
    return config
