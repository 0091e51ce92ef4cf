"""What every contender of the training benchmark has to do: the same sizes, whoever does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iquitos_rl.config import A2CSettings, PPOSettings, RunConfig, SACSettings

__all__ = ["Workload"]


@dataclass(frozen=True)
class Workload:
    """Sizes of a comparison; the defaults are those that the named ratios are about.

    Attributes:
        num_envs: environments in all, divided among the env runners.
        rollout_steps: of A2C and PPO: environment steps per iteration, over all environments.
        minibatch_size: of PPO; A2C takes the whole rollout at once, also where it is some steps longer.
        epochs: of PPO; A2C makes one pass.
        hidden: units of each hidden layer, of actor and critics separately.
        batch_size: of SAC, which makes one update per environment step.
        warmup_steps: environment steps in SAC's replay buffer before it is measured.
        buffer_size: of SAC's replay buffer, transitions.
        citylearn_steps: environment steps of A2C and PPO per iteration on CityLearn, which has one
            environment and takes half a minute for a thousand.
        env_runners: remote sampling processes; 0 = in the algorithm's own.
    """

    num_envs: int = 64
    rollout_steps: int = 2048
    minibatch_size: int = 512
    epochs: int = 10
    hidden: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    warmup_steps: int = 5_000
    buffer_size: int = 50_000
    citylearn_steps: int = 512
    env_runners: int = 0

    @property
    def envs_per_runner(self) -> int:
        """Environments of each env runner."""
        return self.num_envs // max(1, self.env_runners)

    def settings(self, run: RunConfig, algorithm: str) -> A2CSettings | PPOSettings | SACSettings:
        """The run's settings of an algorithm, with these sizes, and without what ends an update early."""
        settings: Any = getattr(run.algorithms, algorithm)
        sizes: dict[str, Any] = {"hidden": self.hidden}
        if algorithm == "sac":
            sizes |= {
                "activation": "relu",
                "batch_size": self.batch_size,
                "buffer_size": self.buffer_size,
                "warmup_steps": self.warmup_steps,
                "updates_per_env_step": 1,
                "steps_per_iteration": self.num_envs,
            }
        else:
            sizes |= {"activation": "tanh", "n_steps": self.rollout_steps}
        if algorithm == "a2c":
            sizes |= {"minibatch_size": None}
        elif algorithm == "ppo":
            sizes |= {"minibatch_size": self.minibatch_size, "epochs": self.epochs, "target_kl": None}
        changed: A2CSettings | PPOSettings | SACSettings = settings.model_copy(update=sizes)
        return changed

    def samples_per_update(self, algorithm: str) -> int | None:
        """Samples of one gradient step; None = the whole rollout."""
        return {"a2c": None, "ppo": self.minibatch_size, "sac": self.batch_size}[algorithm]

    def describe(self, algorithm: str) -> str:
        """Minibatch and env runners, for people."""
        runners = f", env runners: {self.env_runners}" if self.env_runners else ""
        size = self.samples_per_update(algorithm)
        return f"{'whole rollouts' if size is None else f'minibatch {size:,}'}{runners}"
