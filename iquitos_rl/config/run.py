"""The run YAML: which site, reward and algorithms, on what data, for how long, with what resources."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from iquitos_rl.config.algorithm import A2CSettings, PPOSettings, SACSettings
from iquitos_rl.config.base import Fraction, Positive, StrictModel
from iquitos_rl.config.reward import RewardWeights
from iquitos_rl.config.site import SiteConfig

__all__ = [
    "AlgorithmsConfig",
    "CheckpointConfig",
    "DatasetConfig",
    "EnvironmentConfig",
    "EvaluationConfig",
    "ResourceConfig",
    "RunConfig",
    "StopConfig",
    "ValidationConfig",
    "WindowConfig",
]

STEPS_PER_YEAR = 8759
"""A year of 8,760 rows gives 8,759 steps."""

PositiveInt = Annotated[int, Field(ge=1)]
Engine = Literal["batch", "citylearn"]
"""What simulates: the batch engine, or CityLearn itself, the reference; the numbers are the same."""


class DatasetConfig(StrictModel):
    """Where the site's dataset is, or is built when it is missing."""

    path: str | None = Field(default=None, description="directory; datasets/<site name> if left out")
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 2026
    table_format: Literal["parquet", "csv"] = "parquet"


class WindowConfig(StrictModel):
    """Part of a year: ``steps`` hours from ``start_day`` on; the whole year if steps is left out."""

    start_day: Annotated[int, Field(ge=0, le=364, description="day 0 is 1 January, a Monday")] = 0
    steps: Annotated[int, Field(ge=1, le=STEPS_PER_YEAR)] | None = None

    @model_validator(mode="after")
    def _within_the_year(self) -> Self:
        if self.start_step + self.step_count > STEPS_PER_YEAR:
            raise ValueError(
                f"start_day * 24 + steps must not exceed {STEPS_PER_YEAR}: "
                f"{self.start_day} * 24 + {self.step_count}"
            )
        return self

    @property
    def start_step(self) -> int:
        """Hour of the year at which the window starts."""
        return self.start_day * 24

    @property
    def step_count(self) -> int:
        """Number of steps in the window."""
        return self.steps if self.steps is not None else STEPS_PER_YEAR - self.start_step


class EnvironmentConfig(StrictModel):
    """The training environment, the same for every algorithm of a run."""

    engine: Engine = "batch"
    observation: Literal["features", "raw"] = "features"
    mask_idle: bool = Field(
        default=True, description="drop requests of empty and full sockets before the feeder"
    )
    episode_steps: Annotated[int, Field(ge=2, le=STEPS_PER_YEAR)] = Field(
        default=168, description="length of an episode"
    )
    random_start: Literal["day", "hour"] | None = Field(
        default="day", description="where episodes start; null for always at start_day"
    )
    start_day: Annotated[int, Field(ge=0, le=364)] = Field(
        default=0, description="used when random_start is null"
    )
    years: PositiveInt | None = Field(
        default=None, description="use only the first training years; all if null"
    )

    @model_validator(mode="after")
    def _within_the_year(self) -> Self:
        if self.random_start is None and self.start_day * 24 + self.episode_steps > STEPS_PER_YEAR:
            raise ValueError(
                f"start_day * 24 + episode_steps must not exceed {STEPS_PER_YEAR}: "
                f"{self.start_day} * 24 + {self.episode_steps}"
            )
        return self


class StopConfig(StrictModel):
    """When training ends; the algorithms' own budgets if both are left out."""

    env_steps: PositiveInt | None = Field(default=None, description="environment steps of each algorithm")
    episodes: PositiveInt | None = Field(
        default=None, description="budget as episodes of a year, 8,759 steps each, whatever the window"
    )

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.env_steps is not None and self.episodes is not None:
            raise ValueError(
                f"env_steps ({self.env_steps}) and episodes ({self.episodes}) exclude each other"
            )
        return self


class CheckpointConfig(StrictModel):
    """When checkpoints are written: at the first iteration boundary at or after each multiple."""

    every_env_steps: PositiveInt = 1000
    keep: PositiveInt = Field(
        default=3, description="newest checkpoints kept; each carries the best policy too"
    )


class ValidationConfig(StrictModel):
    """How the best policy is chosen while training: deterministic, on the validation year."""

    every_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05, description="share of the budget"
    )
    windows: Annotated[tuple[WindowConfig, ...], Field(min_length=1)] = Field(
        default=(WindowConfig(),), description="parts of the year; their scores are averaged"
    )
    minimum_satisfaction: Fraction = Field(default=0.88, description="a policy below this is never the best")


class EvaluationConfig(StrictModel):
    """The evaluation after training, on a year no agent has seen."""

    engine: Engine = "batch"
    split: Literal["train", "validation", "test"] = "test"
    year: Annotated[int, Field(ge=0)] = 0
    window: WindowConfig = WindowConfig()
    controllers: tuple[str, ...] = Field(
        default=("plug_and_charge", "laxity_first", "best_rule", "oracle"),
        description="what the agents are compared with, besides no_control: names of rules, oracle, mpc",
    )


class ResourceConfig(StrictModel):
    """What each trial takes of the cluster, and how it samples."""

    cpus_per_trial: Positive | Literal["auto"] = Field(
        default="auto",
        description="auto: all trials of the run fit side by side, at most one CPU for each process",
    )
    gpus_per_trial: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="a share of one GPU, or a whole number of them"
    )
    env_runners: Annotated[int, Field(ge=0)] = Field(
        default=0, description="remote samplers; 0 samples in the trial"
    )
    envs_per_runner: PositiveInt = Field(
        default=1, description="on engine citylearn each takes 0.1 GB per training year of 128 sockets"
    )

    @model_validator(mode="after")
    def _gpus_can_be_given(self) -> Self:
        if self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
            raise ValueError(f"gpus_per_trial ({self.gpus_per_trial:g}) must be at most 1, or a whole number")
        return self


class AlgorithmsConfig(StrictModel):
    """The algorithms of a run; a left-out one is not trained."""

    a2c: A2CSettings | None = None
    sac: SACSettings | None = None
    ppo: PPOSettings | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not self.names:
            raise ValueError("name at least one of a2c, sac, ppo")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The algorithms that are present, in a fixed order."""
        return tuple(name for name in ("a2c", "sac", "ppo") if getattr(self, name) is not None)


class RunConfig(StrictModel):
    """One training run: one Tune experiment over the algorithms, then their evaluation."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    demonstration: bool = Field(
        default=False, description="the results are too short to mean anything; tables say so"
    )
    site: SiteConfig
    reward: RewardWeights
    algorithms: AlgorithmsConfig
    dataset: DatasetConfig = DatasetConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    stop: StopConfig = StopConfig()
    resources: ResourceConfig = ResourceConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    storage_path: str = Field(default="runs", description="Tune's storage; one folder per experiment in it")
    output_path: str = Field(default="outputs", description="results; one folder per experiment in it")

    @model_validator(mode="after")
    def _years_exist(self) -> Self:
        years = self.site.years
        if self.environment.years is not None and self.environment.years > years.train:
            raise ValueError(
                f"environment.years ({self.environment.years}) must not exceed the site's "
                f"{years.train} training years"
            )
        if self.evaluation.year >= years.count(self.evaluation.split):
            raise ValueError(
                f"evaluation.year ({self.evaluation.year}) must be below "
                f"{years.count(self.evaluation.split)}, the site's number of {self.evaluation.split} years"
            )
        return self

    @property
    def dataset_path(self) -> str:
        """Directory of the dataset."""
        return self.dataset.path or f"datasets/{self.site.name}"

    def budget_env_steps(self, algorithm: str) -> int:
        """Environment steps that ``algorithm`` is trained for."""
        if self.stop.env_steps is not None:
            return self.stop.env_steps
        if self.stop.episodes is not None:
            return self.stop.episodes * STEPS_PER_YEAR
        return int(getattr(self.algorithms, algorithm).env_steps)
