"""Hyperparameters of A2C, PPO and SAC: the models behind `ray_configs/algorithms/*.yaml`.

No field has a default. A YAML file states every value that training uses, so nothing tuned hides in the code
and two files can be compared line by line. Names are Stable-Baselines3's ideas under clear words;
`iquitos_rl.algorithms.build` maps them to RLlib, which uses some of the same words for other things.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from iquitos_rl.config.base import Fraction, NonNegative, Positive, StrictModel

__all__ = [
    "A2CSettings",
    "Activation",
    "AlgorithmSettings",
    "EntropyCoefficient",
    "PPOSettings",
    "SACSettings",
]

PositiveCount = Annotated[int, Field(ge=1)]
Activation = Literal["tanh", "relu", "silu"]
Hidden = Annotated[tuple[PositiveCount, ...], Field(min_length=1)]


class EntropyCoefficient(StrictModel):
    """Weight of the entropy bonus in the loss, linear in environment steps over the whole step budget."""

    start: NonNegative = Field(description="Weight at environment step 0; dimensionless, >= 0.")
    end: NonNegative = Field(description="Weight at the last step of the budget and after it; >= 0.")


class _Settings(StrictModel):
    """What all three algorithms need."""

    env_steps: PositiveCount = Field(
        description="Training budget in environment steps (decisions of one site, summed over all parallel "
        "environments); >= 1. Training stops at the first iteration that reaches it."
    )
    learning_rate: Positive = Field(description="Step size of the optimiser, constant; > 0.")
    gamma: Fraction = Field(description="Discount of the reward one hour later; 0-1.")
    hidden: Hidden = Field(
        description="Units per hidden layer of every network (actor and critic each have their own)."
    )
    activation: Activation = Field(description="Function after every hidden layer.")


class _OnPolicySettings(_Settings):
    """What A2C and PPO share: rollouts of `n_steps`, generalised advantages, one loss."""

    n_steps: PositiveCount = Field(
        description="Environment steps gathered before each update, in TOTAL over all parallel environments "
        "(Stable-Baselines3 counts them per environment); >= 1."
    )
    minibatch_size: PositiveCount | None = Field(
        description="Samples per gradient step; 1..n_steps, or null for the whole rollout at once. What is "
        "left over is the last, smaller minibatch."
    )
    entropy_coefficient: EntropyCoefficient = Field(description="Entropy bonus at the start and at the end.")
    gae_lambda: Fraction = Field(
        description="Lambda of generalised advantage estimation; 0 = one-step, 1 = Monte Carlo."
    )
    value_coefficient: NonNegative = Field(description="Weight of the squared value error in the loss; >= 0.")
    max_grad_norm: Positive = Field(description="Largest global L2 norm of one gradient step; > 0.")
    normalize_advantage: bool = Field(
        description="Give the advantages of each minibatch mean 0 and standard deviation 1."
    )

    @model_validator(mode="after")
    def _minibatch_fits_the_rollout(self) -> _OnPolicySettings:
        if self.minibatch_size is not None and self.minibatch_size > self.n_steps:
            raise ValueError(
                f"minibatch_size ({self.minibatch_size}) must not exceed n_steps ({self.n_steps})"
            )
        return self


class A2CSettings(_OnPolicySettings):
    """Advantage actor-critic (Mnih et al. 2016): one shuffled pass over each rollout, RMSProp."""

    algorithm: Literal["a2c"] = Field(description="Selects this model.")
    rmsprop_alpha: Fraction = Field(description="Decay of RMSProp's mean squared gradient; 0-1.")
    rmsprop_epsilon: Positive = Field(description="Added to RMSProp's denominator; > 0.")


class PPOSettings(_OnPolicySettings):
    """Proximal policy optimisation with the clipped objective (Schulman et al. 2017), Adam."""

    algorithm: Literal["ppo"] = Field(description="Selects this model.")
    epochs: PositiveCount = Field(description="Shuffled passes over each rollout; >= 1.")
    clip_range: Positive = Field(description="Largest change of the probability ratio that is rewarded; > 0.")
    target_kl: Positive | None = Field(
        description="Early stop: the minibatch whose approximate KL divergence exceeds 1.5 times this is not "
        "applied, and neither is any later one of the same update; > 0 nats, or null for never."
    )
    adam_epsilon: Positive = Field(description="Added to Adam's denominator; > 0.")


class SACSettings(_Settings):
    """Soft actor-critic (Haarnoja et al. 2018) with an automatic temperature."""

    algorithm: Literal["sac"] = Field(description="Selects this model.")
    batch_size: PositiveCount = Field(description="Transitions per gradient step, from the replay buffer.")
    buffer_size: PositiveCount = Field(description="Most transitions the replay buffer keeps; >= batch_size.")
    warmup_steps: PositiveCount = Field(
        description="Environment steps that are only stored; the first update follows the next step."
    )
    updates_per_env_step: Positive = Field(description="Gradient steps per environment step after warm-up.")
    tau: Annotated[float, Field(gt=0, le=1)] = Field(
        description="Share of the online critics mixed into the target critics at each update; 0-1."
    )
    critic_loss: Literal["mse", "huber"] = Field(
        description="Half the squared error of the critics, or Huber's loss: the same up to an error of 1, "
        "linear beyond."
    )
    target_entropy: Literal["auto"] | float = Field(
        description="Policy entropy that the temperature steers to, nats; auto = minus the action dimension."
    )
    initial_alpha: Positive = Field(description="Temperature (weight of the entropy) at the start; > 0.")
    steps_per_iteration: PositiveCount = Field(
        description="Environment steps per reported training iteration. Only sets how often results are "
        "reported; training itself alternates single steps and updates."
    )

    @model_validator(mode="after")
    def _a_batch_fits_the_buffer(self) -> SACSettings:
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"batch_size ({self.batch_size}) must not exceed buffer_size ({self.buffer_size})"
            )
        return self


AlgorithmSettings = Annotated[A2CSettings | PPOSettings | SACSettings, Field(discriminator="algorithm")]
"""One algorithm's settings, told apart by the key `algorithm` (validate it with a pydantic `TypeAdapter`)."""
