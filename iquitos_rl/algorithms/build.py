"""From our settings to RLlib's: what each hyperparameter is called there, and which combinations exist."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from iquitos_rl.algorithms.a2c import A2CConfig
from iquitos_rl.algorithms.actor_critic import actor_critic_model
from iquitos_rl.algorithms.ppo import PPOConfig
from iquitos_rl.algorithms.sac import SACConfig
from iquitos_rl.config.algorithm import A2CSettings, EntropyCoefficient, PPOSettings, SACSettings

__all__ = ["build_algorithm_config"]


def build_algorithm_config(
    settings: A2CSettings | PPOSettings | SACSettings,
    *,
    env: str,
    env_config: dict[str, Any],
    num_envs: int = 1,
    num_env_runners: int = 0,
    num_cpus_per_env_runner: float = 1,
    num_learners: int = 0,
    num_gpus_per_learner: float = 0,
    seed: int | None = None,
    env_steps: int | None = None,
    vectorize_mode: str = "sync",
) -> AlgorithmConfig:
    """Return a complete RLlib configuration; `.build_algo()` starts it.

    How the work is spread (environments, runners, learners) does not change the hyperparameters: rollout,
    minibatch and updates per step are totals, divided among the workers here.

    Args:
        settings: One algorithm's hyperparameters.
        env: Name under which the environment is registered with Ray Tune, or a Gymnasium id.
        env_config: Passed to the environment.
        num_envs: Parallel environments per env runner, >= 1.
        num_env_runners: Remote sampling processes; 0 = sample in the algorithm's own process.
        num_cpus_per_env_runner: CPUs (or a fraction of one) that each of them reserves.
        num_learners: Remote learner processes; 0 = learn in the algorithm's own process.
        num_gpus_per_learner: GPUs (or a fraction of one) for each learner; 0 = CPU.
        seed: Seed of weights, sampling and minibatch order; None = a fresh one each time.
        env_steps: Step budget in place of `settings.env_steps`; the entropy coefficient falls over it.
        vectorize_mode: Gymnasium's: "sync", "async", or "vector_entry_point" for an environment that is
            vectorised itself.

    Raises:
        ValueError: Counts that do not divide; the text names the key and the nearest values that do.
    """
    for key, value, least in (
        ("num_envs", num_envs, 1),
        ("num_env_runners", num_env_runners, 0),
        ("num_learners", num_learners, 0),
        ("env_steps", env_steps if env_steps is not None else settings.env_steps, 1),
    ):
        if value < least:
            raise ValueError(f"{key} = {value}: must be at least {least}")
    if env_steps is not None:
        settings = settings.model_copy(update={"env_steps": env_steps})

    config = _algorithm_config(settings, num_envs, num_env_runners, num_learners)
    config.environment(
        env=env,
        env_config=env_config,
        # A policy acts in [-1, 1] in every dimension, and RLlib maps that linearly to the environment's
        # bounds (and clips a Gaussian's tails): mean 0 is half power at a socket and rest for the battery.
        # With clipping alone, sockets in [0, 1] would start with half of all actions at their lower bound.
        # The action before mapping and clipping is what the learner sees, as in Stable-Baselines3.
        normalize_actions=True,
        clip_actions=False,
    )
    config.env_runners(
        num_env_runners=num_env_runners,
        num_cpus_per_env_runner=num_cpus_per_env_runner,  # type: ignore[arg-type] # fractions work
        num_envs_per_env_runner=num_envs,
        gym_env_vectorize_mode=vectorize_mode,
        # A rollout on CityLearn takes longer than RLlib's minute; after this a runner counts as hung.
        sample_timeout_s=600,
    )
    # How long training waits for a runner that died: Ray starts it again within seconds, if there is room.
    # It, or an environment, may fail three times in a row.
    config.fault_tolerance(
        env_runner_health_probe_timeout_s=60, num_consecutive_env_runner_failures_tolerance=3
    )
    config.learners(num_learners=num_learners, num_gpus_per_learner=num_gpus_per_learner)
    config.debugging(seed=seed)
    return config


@singledispatch
def _algorithm_config(
    settings: object, num_envs: int, num_env_runners: int, num_learners: int
) -> AlgorithmConfig:
    raise TypeError(f"no algorithm has settings of type {type(settings).__name__}")


@_algorithm_config.register
def _(settings: A2CSettings, num_envs: int, num_env_runners: int, num_learners: int) -> AlgorithmConfig:
    config = A2CConfig().training(
        **_on_policy_training(settings, num_envs, num_env_runners, num_learners),
        rmsprop_alpha=settings.rmsprop_alpha,
        rmsprop_epsilon=settings.rmsprop_epsilon,
    )
    return config.rl_module(model_config=actor_critic_model(settings.hidden, settings.activation))


@_algorithm_config.register
def _(settings: PPOSettings, num_envs: int, num_env_runners: int, num_learners: int) -> AlgorithmConfig:
    config = PPOConfig().training(
        **_on_policy_training(settings, num_envs, num_env_runners, num_learners),
        num_epochs=settings.epochs,
        clip_param=settings.clip_range,
        target_kl=settings.target_kl,
        adam_epsilon=settings.adam_epsilon,
    )
    return config.rl_module(model_config=actor_critic_model(settings.hidden, settings.activation))


@_algorithm_config.register
def _(settings: SACSettings, num_envs: int, num_env_runners: int, num_learners: int) -> AlgorithmConfig:
    total_envs = num_envs * max(1, num_env_runners)
    if settings.buffer_size < total_envs:
        raise ValueError(
            f"buffer_size = {settings.buffer_size}: must be at least {total_envs}, one transition for each "
            f"environment (num_envs {num_envs} x env runners {max(1, num_env_runners)})"
        )
    config = SACConfig().training(
        gamma=settings.gamma,
        lr=None,  # RLlib insists: SAC has one learning rate per part
        actor_lr=settings.learning_rate,
        critic_lr=settings.learning_rate,
        alpha_lr=settings.learning_rate,
        tau=settings.tau,
        target_entropy=settings.target_entropy,
        initial_alpha=settings.initial_alpha,
        n_step=1,
        train_batch_size_per_learner=_share("batch_size", settings.batch_size, num_learners),
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": settings.buffer_size},
        # RLlib starts at this very step, Stable-Baselines3 after it
        num_steps_sampled_before_learning_starts=settings.warmup_steps + 1,
        # RLlib's word for samples trained on per sample gathered
        training_intensity=settings.updates_per_env_step * settings.batch_size,
        critic_loss=settings.critic_loss,
    )
    # An RLlib iteration is otherwise "one second at least", which makes results depend on the machine.
    config.reporting(
        min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=settings.steps_per_iteration
    )
    return config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(settings.hidden), fcnet_activation=settings.activation, head_fcnet_hiddens=[]
        )
    )


def _on_policy_training(
    settings: A2CSettings | PPOSettings, num_envs: int, num_env_runners: int, num_learners: int
) -> dict[str, Any]:
    total_envs = num_envs * max(1, num_env_runners)
    if settings.n_steps % total_envs:
        raise ValueError(
            f"n_steps = {settings.n_steps}: must be a multiple of the number of environments, {total_envs} "
            f"(num_envs {num_envs} x env runners {max(1, num_env_runners)}); nearest allowed: n_steps "
            f"{_nearest_multiples(settings.n_steps, total_envs)}, or "
            f"{_nearest_divisors(settings.n_steps, total_envs)} environments"
        )
    return {
        "lr": settings.learning_rate,
        "gamma": settings.gamma,
        "lambda_": settings.gae_lambda,
        "train_batch_size_per_learner": _share("n_steps", settings.n_steps, num_learners),
        "minibatch_size": None
        if settings.minibatch_size is None
        else _share("minibatch_size", settings.minibatch_size, num_learners),
        "entropy_coeff": _schedule(settings.entropy_coefficient, settings.env_steps),
        "vf_loss_coeff": settings.value_coefficient,
        "grad_clip": settings.max_grad_norm,
        "normalize_advantage": settings.normalize_advantage,
    }


def _schedule(coefficient: EntropyCoefficient, env_steps: int) -> list[list[float]]:
    return [[0, coefficient.start], [env_steps, coefficient.end]]


def _share(key: str, total: int, num_learners: int) -> int:
    learners = max(1, num_learners)
    if total % learners:
        raise ValueError(
            f"{key} = {total}: must be a multiple of num_learners, {learners}; nearest allowed: "
            f"{_nearest_multiples(total, learners)}"
        )
    return total // learners


def _nearest_multiples(value: int, of: int) -> str:
    below = value // of * of
    return f"{below} or {below + of}" if below else str(of)


def _nearest_divisors(value: int, near: int) -> str:
    divisors = [d for d in range(1, value + 1) if value % d == 0]
    below = max(d for d in divisors if d < near)
    above = [d for d in divisors if d > near]
    return f"{below} or {above[0]}" if above else str(below)
