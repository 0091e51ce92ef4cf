"""Who trains in the benchmark: ours, RLlib as it is, a bare PyTorch loop, Stable-Baselines3 on CityLearn."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_MODULE_STEPS_TRAINED
from ray.train._internal.storage import StorageContext

import iquitos_rl
from iquitos_rl.bench.workload import Workload
from iquitos_rl.config.algorithm import AlgorithmSettings, SACSettings
from iquitos_rl.env import EVChargingEnv, make_vector_env

__all__ = [
    "BareLoop",
    "Contender",
    "EnvironmentAlone",
    "RLlibTraining",
    "StableBaselines3",
    "Turn",
    "bare_loop_path",
    "load_bare_loop",
]

Result = TypeVar("Result")

ENVIRONMENT_ROWS = 256
"""Steps of all environments in a turn of the environment alone: a tenth of a second for 64 environments."""


@dataclass(frozen=True)
class Turn:
    """What a contender did in its turn.

    Attributes:
        env_steps: environment steps; resets do not count.
        updates: gradient steps.
        seconds: in all.
        learning_s: of these, in the update and in drawing from the replay buffer; the rest is sampling.
        cpu_s: of CPU that this process took, remote env runners left out. Less than ``seconds`` where other
            processes had the core.
    """

    env_steps: int
    updates: int
    seconds: float
    learning_s: float
    cpu_s: float


class Contender(Protocol):
    """Something that trains, an iteration at a time."""

    def turn(self) -> Turn:
        """Train for one iteration."""

    def close(self) -> None:
        """Give back what it holds."""


def _timed(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """What some work returns, the seconds it takes, and those of CPU."""
    started, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - started, time.process_time() - cpu


class _Stopwatch:
    """Adds up the time spent in some methods of an object."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, owner: Any, method: str) -> None:
        function: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        setattr(owner, method, timed)


class RLlibTraining:
    """An RLlib algorithm, ours or stock.

    Args:
        config: complete, environment included.
        folder: for what RLlib writes; on its own it would make one in the user's home.
        batch_size: samples per gradient step; None = all of an iteration at once.
    """

    def __init__(self, config: AlgorithmConfig, folder: Path, batch_size: int | None) -> None:
        assert config.algo_class is not None
        storage = StorageContext(str(folder), experiment_dir_name="bench", trial_dir_name="trial")
        self._algorithm: Algorithm = config.algo_class(config=config, storage=storage)
        self._batch_size = batch_size
        self._learning = _Stopwatch()
        self._learning.watch(self._algorithm.learner_group, "update")
        buffer = getattr(self._algorithm, "local_replay_buffer", None)
        if buffer is not None:
            self._learning.watch(buffer, "sample")
        self._env_steps = 0

    def turn(self) -> Turn:
        """One training iteration; all that RLlib does around it counts as sampling."""
        self._learning.seconds = 0.0
        result, seconds, cpu_s = _timed(self._algorithm.train)
        before, self._env_steps = self._env_steps, int(result[NUM_ENV_STEPS_SAMPLED_LIFETIME])
        learner = result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})
        # Ours counts its updates; stock RLlib only the samples in them.
        samples = float(learner.get(NUM_MODULE_STEPS_TRAINED, 0))
        counted = samples / self._batch_size if self._batch_size else bool(samples)
        return Turn(
            env_steps=self._env_steps - before,
            updates=round(float(learner.get("num_minibatch_updates", counted))),
            seconds=seconds,
            learning_s=self._learning.seconds,
            cpu_s=cpu_s,
        )

    def close(self) -> None:
        """Stop the algorithm's workers."""
        self._algorithm.stop()


def bare_loop_path() -> Path:
    """Where the bare loop is in a checkout."""
    return Path(iquitos_rl.__file__).resolve().parents[1] / "experiments" / "bare_loop.py"


def load_bare_loop(path: Path) -> ModuleType | None:
    """The bare loop's module; None if it is not there: experiments are not part of an installed package."""
    if not path.is_file():
        return None
    specification = importlib.util.spec_from_file_location("iquitos_rl_bare_loop", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look for it there
    specification.loader.exec_module(module)
    return module


class BareLoop:
    """The bare PyTorch loop of experiments/bare_loop.py.

    Args:
        module: as `load_bare_loop` gives it.
        settings: with the sizes of the comparison.
        workload: sizes.
        env_config: arguments of `make_vector_env`.
    """

    def __init__(
        self,
        module: ModuleType,
        settings: AlgorithmSettings,
        workload: Workload,
        env_config: Mapping[str, Any],
    ) -> None:
        options = dict(env_config)
        self._envs = make_vector_env(options.pop("schema"), workload.num_envs, copy=False, **options)
        shared = {
            "learning_rate": settings.learning_rate,
            "gamma": settings.gamma,
            "hidden": settings.hidden,
        }
        if isinstance(settings, SACSettings):
            self._loop = module.SACLoop(
                self._envs,
                module.SACOptions(
                    batch_size=settings.batch_size,
                    buffer_size=settings.buffer_size,
                    warmup_steps=settings.warmup_steps,
                    tau=settings.tau,
                    **shared,
                ),
            )
            return
        shared |= {
            "rollout_steps": settings.n_steps // workload.num_envs,
            "gae_lambda": settings.gae_lambda,
            "value_coefficient": settings.value_coefficient,
            "entropy_coefficient": settings.entropy_coefficient.start,
            "max_grad_norm": settings.max_grad_norm,
            "normalize_advantage": settings.normalize_advantage,
            "minibatch_size": settings.minibatch_size,
        }
        if settings.algorithm == "a2c":
            shared |= {"epochs": 1, "optimizer": "rmsprop", "clip_range": None}
        else:
            shared |= {"epochs": settings.epochs, "clip_range": settings.clip_range}
        self._loop = module.OnPolicyLoop(self._envs, module.OnPolicyOptions(**shared))

    def turn(self) -> Turn:
        """One iteration; SAC's may be a mere reset of all environments, then the next one too."""
        done, seconds, cpu_s = _timed(self._iterate)
        return Turn(done.env_steps, done.updates, seconds, done.learning_s, cpu_s)

    def _iterate(self) -> Any:
        done = self._loop.iterate()
        return done if done.env_steps else self._loop.iterate()

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()


class StableBaselines3:
    """Stable-Baselines3 on one environment of CityLearn itself.

    Args:
        settings: with the sizes of the comparison.
        workload: sizes.
        env: on CityLearn; its owner closes it.
    """

    def __init__(self, settings: AlgorithmSettings, workload: Workload, env: EVChargingEnv) -> None:
        import stable_baselines3
        from torch import nn

        hidden = list(settings.hidden)
        options: dict[str, Any] = {
            "learning_rate": settings.learning_rate,
            "gamma": settings.gamma,
            "seed": 0,
            "device": "cpu",
        }
        self._steps = workload.citylearn_steps
        if isinstance(settings, SACSettings):
            self._steps = workload.num_envs
            options |= {
                "batch_size": settings.batch_size,
                "buffer_size": settings.buffer_size,
                "learning_starts": settings.batch_size,
                "tau": settings.tau,
                "policy_kwargs": {"net_arch": hidden},
            }
        else:
            options |= {
                "n_steps": self._steps,
                "gae_lambda": settings.gae_lambda,
                "ent_coef": settings.entropy_coefficient.start,
                "vf_coef": settings.value_coefficient,
                "max_grad_norm": settings.max_grad_norm,
                "policy_kwargs": {
                    "net_arch": {"pi": hidden, "vf": hidden},
                    "activation_fn": nn.Tanh,
                },
            }
        if settings.algorithm == "ppo":
            size = min(settings.minibatch_size or self._steps, self._steps)
            options |= {"batch_size": size, "n_epochs": settings.epochs}
        self._model = getattr(stable_baselines3, settings.algorithm.upper())("MlpPolicy", env, **options)
        self._learning = _Stopwatch()
        self._learning.watch(self._model, "train")

    def turn(self) -> Turn:
        """A rollout and its update; SAC: some steps, each with an update."""
        self._learning.seconds = 0.0
        steps, updates = self._model.num_timesteps, self._model._n_updates
        _, seconds, cpu_s = _timed(lambda: self._model.learn(self._steps, reset_num_timesteps=False))
        return Turn(
            env_steps=self._model.num_timesteps - steps,
            updates=self._model._n_updates - updates,
            seconds=seconds,
            learning_s=self._learning.seconds,
            cpu_s=cpu_s,
        )

    def close(self) -> None:
        """Nothing: the environment is its owner's."""


class EnvironmentAlone:
    """The vector environment under random actions, which are made beforehand: no training at all.

    Args:
        workload: sizes.
        env_config: arguments of `make_vector_env`.
    """

    def __init__(self, workload: Workload, env_config: Mapping[str, Any]) -> None:
        options = dict(env_config)
        self._envs = make_vector_env(options.pop("schema"), workload.num_envs, **options)
        self._envs.reset(seed=0)
        self._envs.action_space.seed(0)
        self._actions = [self._envs.action_space.sample() for _ in range(8)]
        self._ended = np.zeros(workload.num_envs, bool)

    def turn(self) -> Turn:
        """Some steps of all environments."""
        env_steps, seconds, cpu_s = _timed(self._step)
        return Turn(env_steps, 0, seconds, 0.0, cpu_s)

    def _step(self) -> int:
        env_steps = 0
        for k in range(ENVIRONMENT_ROWS):
            env_steps += len(self._ended) - int(np.count_nonzero(self._ended))
            _, _, terminated, truncated, _ = self._envs.step(self._actions[k % len(self._actions)])
            self._ended = terminated | truncated
        return env_steps

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()
