"""Where a training iteration's time goes, for each algorithm alone on a core.

    OMP_NUM_THREADS=1 .venv/bin/python experiments/profile_iteration.py [--algo a2c ppo sac] [--threads 1]
        [--run ray_configs/runs/train_all.yaml] [--set KEY=VALUE ...]

Takes the run's hyperparameters and environments on its dataset, which must have been built
(`iquitos-rl dataset build`); SAC with a warm-up of 200 steps. Prints milliseconds of an iteration.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.config import RunConfig, load_run
from iquitos_rl.env import ENV_ID, register
from iquitos_rl.site import load_dataset
from iquitos_rl.training.cluster import connect
from iquitos_rl.training.trainable import training_env_config

ITERATIONS = {"a2c": 6, "ppo": 6, "sac": 1}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algo", nargs="+", choices=sorted(ITERATIONS), default=list(ITERATIONS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a key of the run")
    parser.add_argument("--run", type=Path, default=Path("ray_configs/runs/train_all.yaml"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = load_run(arguments.run, arguments.set)
    register()
    with connect("local", dashboard=False):
        for name in arguments.algo:
            print(name, profile(run, name, ITERATIONS[name]))


def profile(run: RunConfig, name: str, iterations: int) -> dict[str, float]:
    """Milliseconds of an iteration by what they are spent on, and its gradient steps."""
    settings: Any = getattr(run.algorithms, name)
    if name == "sac":
        settings = settings.model_copy(update={"warmup_steps": 200})
    config = build_algorithm_config(
        settings,
        env=ENV_ID,
        env_config=training_env_config(run, load_dataset(Path(run.dataset_path))),
        num_envs=run.resources.envs_per_runner,
        seed=run.seed,
        vectorize_mode="vector_entry_point",
    )
    algorithm: Any = config.build_algo()
    try:
        for _ in range(2):
            algorithm.train()
        spent: dict[str, float] = defaultdict(float)
        runner = algorithm.env_runner_group.local_env_runner
        for owner, method, label in (
            (algorithm, "step", "iteration"),
            (runner, "sample", "sampling"),
            (runner, "_act", "sampling: policy"),
            (runner._vector, "step", "sampling: environment"),
            (algorithm.learner_group, "update", "learning"),
            (algorithm, "sync_weights", "weights to the sampler"),
        ):
            _watch(owner, method, label, spent)
        updates = 0
        for _ in range(iterations):
            updates += int(algorithm.train()["learners"]["default_policy"]["num_minibatch_updates"])
    finally:
        algorithm.stop()
    milliseconds = {label: round(1000 * seconds / iterations, 1) for label, seconds in spent.items()}
    return milliseconds | {"gradient steps": round(updates / iterations, 1)}


def _watch(owner: Any, method: str, label: str, spent: dict[str, float]) -> None:
    """Let a method add up its time."""
    plain = getattr(owner, method)

    def timed(*positional: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return plain(*positional, **named)
        finally:
            spent[label] += time.perf_counter() - started

    setattr(owner, method, timed)


if __name__ == "__main__":
    main()
