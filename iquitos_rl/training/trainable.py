"""The Tune trainable: one agent on one site, validated and checkpointed by environment steps."""

from __future__ import annotations

import importlib.metadata
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from ray.tune.result import DONE, SHOULD_CHECKPOINT, TIMESTEPS_TOTAL

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.algorithms.errors import NonFiniteActionError, NonFiniteGradientError
from iquitos_rl.algorithms.policy import Policy, inference_module, save_policy
from iquitos_rl.config import RunConfig
from iquitos_rl.control.loading import BEST_POLICY, LATEST_POLICY
from iquitos_rl.control.policy import TrainedPolicy
from iquitos_rl.env import ENV_ID, BatchVectorEnv, register
from iquitos_rl.evaluation import Evaluator
from iquitos_rl.objectives import NoControlReference
from iquitos_rl.site import Dataset, load_dataset
from iquitos_rl.training.outputs import FAILURE

__all__ = ["CHECKPOINT_FILE", "SiteTrainable", "TrialTask"]

CHECKPOINT_FILE = "checkpoint.json"
ALGORITHM_FOLDER = "algorithm"
LEARNER_METRICS = {
    "policy_loss": ("policy_loss",),
    "value_loss": ("vf_loss", "qf_loss"),
    "entropy": ("entropy",),
    "approx_kl": ("approx_kl",),
    "explained_variance": ("vf_explained_var",),
    "alpha": ("alpha_value",),
    "grad_norm": ("grad_norm",),
    "minibatch_updates": ("num_minibatch_updates",),
}
"""Columns of a trial's results, and RLlib's names for them; the first that is there is taken."""


@dataclass(frozen=True)
class TrialTask:
    """What every trial of a run shares.

    Attributes:
        run: the run configuration, as JSON.
        dataset_path: absolute.
        fingerprint: of the dataset; a trial refuses to train on another.
        cpus_per_env_runner: what each remote sampler reserves.
        threads: of the process that learns.
    """

    run: str
    dataset_path: str
    fingerprint: str
    cpus_per_env_runner: float = 1.0
    threads: int = 1


@dataclass(frozen=True)
class BestPolicy:
    """The best policy so far by validation.

    Attributes:
        validation: what was measured: score, satisfaction, environment steps.
        state: its weights.
    """

    validation: dict[str, Any]
    state: dict[str, Any]


class SiteTrainable(tune.Trainable):
    """Trains one algorithm of a run on its site.

    Tune's ``config`` names the algorithm; `TrialTask` holds the rest. An iteration is one RLlib training
    iteration. A checkpoint is asked for at the first iteration at or after each multiple of
    ``checkpoint.every_env_steps``, and at the end; it holds RLlib's whole state, the policy at that time and
    the best policy so far, so that keeping the newest few never loses the best.
    """

    def setup(self, config: dict[str, Any], task: TrialTask | None = None) -> None:
        """Build the algorithm. Raises DatasetError or ValueError where data or settings do not fit."""
        assert task is not None
        torch.set_num_threads(task.threads)
        self.run_config = RunConfig.model_validate_json(task.run)
        self.algorithm_name: str = config["algorithm"]
        self.settings = getattr(self.run_config.algorithms, self.algorithm_name)
        self.budget = self.run_config.budget_env_steps(self.algorithm_name)
        self.dataset = load_dataset(Path(task.dataset_path))
        if self.dataset.fingerprint != task.fingerprint:
            raise ValueError(
                f"{task.dataset_path}: fingerprint {self.dataset.fingerprint[:12]} on this node, the run "
                f"began with {task.fingerprint[:12]}: build the dataset again from the same site and seed"
            )
        register()
        self.env_steps = 0
        self._steps_at_checkpoint = 0
        self._best: BestPolicy | None = None
        self._validation: dict[str, Any] = {}
        self._validation_seconds = 0.0
        self._checkpoint_seconds = 0.0
        self._evaluator: Evaluator | None = None
        self.algorithm = self._build(task.cpus_per_env_runner)
        self._layout, self._spaces = self._describe_env()

    def _describe_env(self) -> tuple[dict[str, object], tuple[spaces.Box, spaces.Box]]:
        """Observation layout and spaces; with remote samplers only they have an environment."""
        runners = self.algorithm.env_runner_group
        assert runners is not None
        describe: Any = _describe_env_of
        descriptions: list[Any] = runners.foreach_env_runner(describe, local_env_runner=True)
        return next(description for description in descriptions if description is not None)

    def _build(self, cpus_per_env_runner: float) -> Algorithm:
        run = self.run_config
        resources = run.resources
        config = build_algorithm_config(
            self.settings,
            env=ENV_ID,
            env_config=training_env_config(run, self.dataset),
            num_envs=resources.envs_per_runner,
            num_env_runners=resources.env_runners,
            num_cpus_per_env_runner=cpus_per_env_runner,
            num_gpus_per_learner=resources.gpus_per_trial,
            seed=run.seed,
            env_steps=self.budget,
            vectorize_mode="vector_entry_point" if run.environment.engine == "batch" else "sync",
        )
        config.callbacks(on_environment_created=_separate_streams)
        # With this trial's storage; on its own RLlib would make a folder in the user's home.
        assert config.algo_class is not None
        return config.algo_class(config=config, storage=self._storage)

    def step(self) -> dict[str, Any]:
        """One training iteration, and a validation when one is due.

        Numbers that are not finite end the trial with the reason. It is not started again, as after other
        errors: from the last checkpoint on it would come to the same end.
        """
        before = self.env_steps
        started = time.monotonic()
        try:
            result = self.algorithm.train()
        except (NonFiniteGradientError, NonFiniteActionError) as error:
            return self._report({}, {}, speed=0.0) | {FAILURE: str(error), DONE: True}
        runners = result.get(ENV_RUNNER_RESULTS, {})
        self.env_steps = int(result.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, before))
        seconds = time.monotonic() - started
        done = self.env_steps >= self.budget
        if self._is_multiple_passed(before, self._validation_interval) or done:
            self._validate()
        every = self.run_config.checkpoint.every_env_steps
        due = self.env_steps // every > self._steps_at_checkpoint // every
        learner = result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})
        speed = (self.env_steps - before) / max(seconds, 1e-9)
        return self._report(runners, learner, speed) | {SHOULD_CHECKPOINT: due or done, DONE: done}

    def _report(self, runners: Mapping[str, Any], learner: Mapping[str, Any], speed: float) -> dict[str, Any]:
        return {
            "env_steps": self.env_steps,
            TIMESTEPS_TOTAL: self.env_steps,
            "budget": self.budget,
            "env_steps_per_second": speed,
            "episode_return_mean": _number(runners.get(EPISODE_RETURN_MEAN)),
            **{name: _first_number(learner, keys) for name, keys in LEARNER_METRICS.items()},
            # NaN until the first validation: Tune's CSV has the columns of the first result for good.
            "validation_score": self._validation.get("score", math.nan),
            "validation_satisfaction": self._validation.get("satisfaction", math.nan),
            "validation_seconds": self._validation_seconds,
            "checkpoint_seconds": self._checkpoint_seconds,
            FAILURE: "",
        }

    @property
    def _validation_interval(self) -> int:
        return max(1, math.ceil(self.run_config.validation.every_fraction * self.budget))

    def _is_multiple_passed(self, before: int, interval: int) -> bool:
        return self.env_steps // interval > before // interval

    def _state(self) -> dict[str, Any]:
        """Weights of the present policy, for acting only."""
        part = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/{DEFAULT_MODULE_ID}"
        learners = self.algorithm.learner_group
        assert learners is not None
        state = learners.get_state(components=part, inference_only=True)
        return dict(state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID])

    def policy(self) -> Policy:
        """The present policy, ready to act."""
        return self._policy_of(self._state())

    def _policy_of(self, state: dict[str, Any]) -> Policy:
        module = inference_module(self.settings, *self._spaces)
        module.set_state(state)
        module.eval()
        return Policy(self.settings, module, *self._spaces, origin=self._origin())

    def _validate(self) -> None:
        """Score the present policy on the validation year; keep it if it is the best."""
        started = time.monotonic()
        validation = self.run_config.validation
        if self._evaluator is None:
            self._evaluator = Evaluator(
                self.dataset,
                split="validation",
                engine=self.run_config.environment.engine,
                weights=self.run_config.reward,
            )
        state = self._state()
        controller = TrainedPolicy(self._policy_of(state), Path(self.logdir))
        results = [self._evaluator.evaluate(controller, window).kpis for window in validation.windows]
        departures = sum(kpis["ev_departures"] for kpis in results)
        satisfied = sum(
            kpis["ev_satisfaction"] * kpis["ev_departures"] for kpis in results if kpis["ev_departures"]
        )
        satisfaction = satisfied / departures if departures else 1.0
        self._validation = {
            "score": sum(kpis["score"] for kpis in results) / len(results),
            "satisfaction": satisfaction,
            "meets_service": satisfaction >= validation.minimum_satisfaction,
            "env_steps": self.env_steps,
        }
        if self._best is None or _rank(self._validation) > _rank(self._best.validation):
            self._best = BestPolicy(self._validation, state)
        self._validation_seconds += time.monotonic() - started

    def _origin(self) -> dict[str, Any]:
        run = self.run_config
        return {
            "experiment": run.name,
            "env_steps": self.env_steps,
            "seed": run.seed,
            "observation": run.environment.observation,
            "mask_idle": run.environment.mask_idle,
            "layout": self._layout,
            "dataset_fingerprint": self.dataset.fingerprint,
            "site": run.site.name,
            "reward": run.reward.model_dump(),
            "versions": {name: importlib.metadata.version(name) for name in ("ray", "torch", "citylearn")},
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write RLlib's state, the present and the best policy, and what they are."""
        started = time.monotonic()
        folder = Path(checkpoint_dir)
        self.algorithm.save_to_path(str((folder / ALGORITHM_FOLDER).absolute()))
        origin = self._origin()
        self._write_policy(folder / LATEST_POLICY, self._state(), origin)
        if self._best is not None:
            best = origin | {
                "env_steps": self._best.validation["env_steps"],
                "validation": self._best.validation,
            }
            self._write_policy(folder / BEST_POLICY, self._best.state, best)
        description = {
            "algorithm": self.algorithm_name,
            "env_steps": self.env_steps,
            "budget": self.budget,
            "best_validation": self._best.validation if self._best else None,
            "last_validation": self._validation,
            "validation_seconds": self._validation_seconds,
            "checkpoint_seconds": self._checkpoint_seconds,
            "origin": origin,
        }
        text = json.dumps(description, indent=1) + "\n"
        (folder / CHECKPOINT_FILE).write_text(text, encoding="utf-8")
        self._steps_at_checkpoint = self.env_steps
        self._checkpoint_seconds += time.monotonic() - started

    def _write_policy(self, folder: Path, state: Mapping[str, Any], origin: dict[str, Any]) -> None:
        save_policy(folder, state, self.settings, *self._spaces, origin)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        """Go on from a checkpoint of `save_checkpoint`."""
        folder = Path(checkpoint_dir)
        description = json.loads((folder / CHECKPOINT_FILE).read_text(encoding="utf-8"))
        self.algorithm.restore_from_path(str((folder / ALGORITHM_FOLDER).absolute()))
        self.env_steps = self._steps_at_checkpoint = int(description["env_steps"])
        self._validation = description["last_validation"]
        self._validation_seconds = float(description["validation_seconds"])
        self._checkpoint_seconds = float(description["checkpoint_seconds"])
        if description["best_validation"] is not None:
            tensors = torch.load(folder / BEST_POLICY / "policy.pt", weights_only=True)
            state = {name: tensor.numpy() for name, tensor in tensors.items()}
            self._best = BestPolicy(description["best_validation"], state)

    def cleanup(self) -> None:
        """Stop the algorithm's own workers."""
        self.algorithm.stop()


def _describe_env_of(
    runner: SingleAgentEnvRunner,
) -> tuple[dict[str, object], tuple[spaces.Box, spaces.Box]] | None:
    if runner.env is None:
        return None
    vector = runner.env.unwrapped
    # The batch engine's environments are one; CityLearn's are each an environment of its own.
    one = vector if isinstance(vector, BatchVectorEnv) else vector.envs[0].unwrapped
    return one.observation_layout, (vector.single_observation_space, vector.single_action_space)


def _separate_streams(*, env_runner: SingleAgentEnvRunner, env: Any, **_: Any) -> None:
    """Let each runner choose windows of its own; see `iquitos_rl.env.registration`.

    RLlib does not tell a vector environment of our own which runner it is for.
    """
    if isinstance(env, BatchVectorEnv):
        env.seed_stream = env_runner.worker_index


def training_env_config(run: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """Arguments of `iquitos_rl.env.make_env` for training: plain values that any process can use."""
    environment = run.environment
    years = range(environment.years or dataset.years("train"))
    start = environment.start_day * 24
    no_control = [dataset.no_control("train", year) for year in years]
    if environment.random_start is None:
        # One fixed window: its own no-control values, where they are known without a simulation.
        window = (start, environment.episode_steps)
        known = all(year.closed_form_valid(start) for year in no_control)
        references = [year.reference(*window) if known else year.reference() for year in no_control]
    else:
        references = [year.reference() for year in no_control]
    return {
        "schema": [str(dataset.schema_path("train", year)) for year in years],
        "engine": environment.engine,
        "observation": environment.observation,
        "mask_idle": environment.mask_idle,
        "episode_steps": environment.episode_steps,
        "random_start": environment.random_start,
        "start_step": 0 if environment.random_start else start,
        "weights": run.reward.model_dump(),
        "reference": NoControlReference.mean(references).to_json(),
    }


def _rank(validation: Mapping[str, Any]) -> tuple[bool, float]:
    """Higher is better: first those that serve the vehicles, by score; then the others, by satisfaction."""
    meets = bool(validation["meets_service"])
    return meets, -validation["score"] if meets else validation["satisfaction"]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _first_number(values: Mapping[str, Any], keys: tuple[str, ...]) -> float:
    return next((_number(values[key]) for key in keys if key in values), math.nan)
