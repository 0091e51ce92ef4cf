"""Does each algorithm learn as well as RLlib's own and Stable-Baselines3's, in the same number of steps?

    .venv/bin/python experiments/verify_learning.py                           (make verify; half an hour)
    .venv/bin/python experiments/verify_learning.py --task delayed --algo ppo a2c --seeds 3 [--json]

The tasks are small and their best return is known: a point on a line to be driven to 0, at once ("point") or
with a delay of one step, so that an action's own reward does not tell what it is good for ("delayed"); see
tests/algorithms/point_env.py. For each algorithm and seed three contenders with equal settings
(experiments/learning_contenders.py says what is equal and what cannot be) learn for the same number of
environment steps. After half of them ("halfway") and at the end ("trained") their policies act without
exploring in 100 episodes, the same ones for all.

Printed are means over the seeds with their 95 % interval (Student's t), and ours minus each reference with
Welch's 95 % interval. Exits 1 if ours is worse: the interval of a difference lies below 0 altogether, and the
difference is more than 2 % of the way from an untrained policy to the best return. Settings were chosen once
so that all contenders learn; none was tuned for one of them. Needs the tests, so it runs from a checkout
only. ``--json`` prints the figures as JSON; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from gymnasium.wrappers import RescaleAction
from numpy.typing import NDArray
from ray.tune.registry import register_env
from rich.console import Console
from scipy import stats

from iquitos_rl.config.algorithm import (
    A2CSettings,
    AlgorithmSettings,
    EntropyCoefficient,
    PPOSettings,
    SACSettings,
)
from iquitos_rl.evaluation.statistics import CONFIDENCE, MINIMUM_SEEDS, confidence_interval
from iquitos_rl.tables import plain_table
from iquitos_rl.training.cluster import connect
from iquitos_rl.versions import versions

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from experiments.learning_contenders import Contender, RLlib, StableBaselines3, our_config, stock_config
from tests.algorithms.point_env import PointEnv, best_actions

Act = Callable[[NDArray[np.float32]], NDArray[np.float32]]

EPISODES = 100
FIRST_EPISODE_SEED = 100_000
ENVIRONMENTS = 8
MARGIN = 0.02
"""Share of the way from untrained to best that a difference must exceed to count."""
CONTENDERS = ("ours", "RLlib", "SB3")
MOMENTS = ("halfway", "trained")


TASKS: dict[str, dict[str, Any]] = {
    "point": {"terminates": True},
    "delayed": {"terminates": True, "delayed": True},
}
NO_BONUS = EntropyCoefficient(start=0.0, end=0.0)
A2C = A2CSettings(
    algorithm="a2c",
    env_steps=20_000,
    n_steps=64,
    minibatch_size=64,
    learning_rate=3e-3,
    gamma=0.9,
    gae_lambda=0.95,
    entropy_coefficient=NO_BONUS,
    value_coefficient=0.5,
    max_grad_norm=0.5,
    normalize_advantage=True,
    rmsprop_alpha=0.99,
    rmsprop_epsilon=1e-5,
    hidden=(32, 32),
    activation="tanh",
)
PPO = PPOSettings(
    algorithm="ppo",
    env_steps=5_120,
    n_steps=256,
    minibatch_size=64,
    epochs=5,
    learning_rate=3e-3,
    gamma=0.9,
    gae_lambda=0.95,
    clip_range=0.2,
    target_kl=None,
    entropy_coefficient=NO_BONUS,
    value_coefficient=0.5,
    max_grad_norm=0.5,
    normalize_advantage=True,
    adam_epsilon=1e-8,
    hidden=(32, 32),
    activation="tanh",
)
SAC = SACSettings(
    algorithm="sac",
    env_steps=2_000,
    batch_size=64,
    buffer_size=20_000,
    warmup_steps=200,
    updates_per_env_step=1.0,
    learning_rate=3e-3,
    gamma=0.9,
    tau=0.005,
    critic_loss="mse",
    target_entropy="auto",
    initial_alpha=1.0,
    hidden=(32, 32),
    activation="relu",
    steps_per_iteration=40,  # whole rounds of the environments
)
SETTINGS: dict[str, AlgorithmSettings] = {"a2c": A2C, "ppo": PPO, "sac": SAC}


def make_env(task: str, config: Any = None) -> gym.Env[Any, Any]:
    """A task with all actions in [-1, 1], so that nobody has to scale them; RLlib gives a config."""
    return RescaleAction(PointEnv(TASKS[task]), np.float32(-1), np.float32(1))


def best_policy(observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """The optimum's actions, scaled like the task's."""
    bounds = cast(gym.spaces.Box, PointEnv().action_space)
    return 2 * (best_actions(observations) - bounds.low) / (bounds.high - bounds.low) - 1


def mean_return(task: str, act: Act) -> float:
    """Mean undiscounted return of the test episodes, all of them stepped side by side."""
    environments = [make_env(task) for _ in range(EPISODES)]
    observations = np.stack(
        [env.reset(seed=FIRST_EPISODE_SEED + i)[0] for i, env in enumerate(environments)]
    ).astype(np.float32)
    going = list(range(EPISODES))
    total = 0.0
    while going:
        actions = act(observations[going])
        ended = set()
        for i, action in zip(going, actions, strict=True):
            observations[i], reward, terminated, truncated, _ = environments[i].step(action)
            total += float(reward)
            if terminated or truncated:
                ended.add(i)
        going = [i for i in going if i not in ended]
    return total / EPISODES


def contender(name: str, task: str, settings: AlgorithmSettings, seed: int) -> Contender:
    if name == "SB3":
        return StableBaselines3(settings, partial(make_env, task), ENVIRONMENTS, seed)
    make_config = our_config if name == "ours" else stock_config
    return RLlib(make_config(settings, task, ENVIRONMENTS, seed))


def run(name: str, task: str, settings: AlgorithmSettings, seed: int) -> dict[str, float]:
    """One contender learns with one seed: returns before, after half of the steps and at the end."""
    learner = contender(name, task, settings, seed)
    try:
        result = {"seed": seed, "untrained": mean_return(task, learner.act)}
        seconds = 0.0
        for moment, env_steps in zip(MOMENTS, (settings.env_steps // 2, settings.env_steps), strict=True):
            started = time.perf_counter()
            result["env_steps"] = learner.learn_until(env_steps)
            seconds += time.perf_counter() - started
            result[moment] = mean_return(task, learner.act)
        return result | {"seconds": seconds}
    finally:
        learner.close()


def difference(ours: list[float], reference: list[float], span: float) -> dict[str, Any]:
    """Ours minus a reference, Welch's interval, and whether ours is worse by more than chance and margin."""
    mean = fmean(ours) - fmean(reference)
    if min(len(ours), len(reference)) < MINIMUM_SEEDS:
        return {"mean": mean, "interval": None, "worse": False}
    interval = stats.ttest_ind(ours, reference, equal_var=False).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    as_good = high >= 0 or mean >= -MARGIN * span  # neither is true of a return that is not a number
    return {"mean": mean, "interval": [low, high], "worse": not as_good}


def study(task: str, algorithm: str, settings: AlgorithmSettings, seeds: int) -> dict[str, Any]:
    """All contenders and seeds of one algorithm on one task."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for seed in range(1, seeds + 1):
        for name in CONTENDERS:
            result = run(name, task, settings, seed)
            runs[name].append(result)
            figures = ", ".join(f"{key} {value:.6g}" for key, value in result.items())
            print(f"{task}, {algorithm}, {name}: {figures}", file=sys.stderr, flush=True)
    best = mean_return(task, best_policy)
    # the best of the three, which makes the margin the smallest
    untrained = max(fmean(result["untrained"] for result in results) for results in runs.values())
    return {
        "task": task,
        "algorithm": algorithm,
        "settings": settings.model_dump(mode="json"),
        "best": best,
        "untrained": untrained,
        "contenders": {name: summary(results) for name, results in runs.items()},
        "differences": {
            name: {
                moment: difference(
                    [result[moment] for result in runs["ours"]],
                    [result[moment] for result in runs[name]],
                    best - untrained,
                )
                for moment in MOMENTS
            }
            for name in CONTENDERS
            if name != "ours"
        },
    }


def summary(results: list[dict[str, float]]) -> dict[str, Any]:
    """Means of a contender's runs, and the interval of its returns."""
    returns = {moment: [result[moment] for result in results] for moment in MOMENTS}
    return {
        "return": {moment: fmean(values) for moment, values in returns.items()},
        "interval": {moment: confidence_interval(values) for moment, values in returns.items()},
        "env_steps": fmean(result["env_steps"] for result in results),
        "seconds": fmean(result["seconds"] for result in results),
        "runs": results,
    }


def with_interval(mean: float, interval: Any, sign: str = "") -> str:
    if interval is None:
        return f"{mean:{sign}.3f}"
    return f"{mean:{sign}.3f} [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"


def print_table(console: Console, result: dict[str, Any], seeds: int) -> None:
    title = (
        f"{result['task']}, {result['algorithm']}, {seeds} seeds, {result['settings']['env_steps']} steps: "
        f"best return {result['best']:.3f}, untrained {result['untrained']:.1f}"
    )
    table = plain_table(title)
    for heading in ("contender", "", "return", "ours minus it", "steps", "s"):
        table.add_column(heading, justify="left" if heading in ("contender", "") else "right", no_wrap=True)
    for name, figures in result["contenders"].items():
        for moment in MOMENTS:
            minus = result["differences"][name][moment] if name in result["differences"] else None
            last = moment == "trained"
            table.add_row(
                name if not last else "",
                moment,
                with_interval(figures["return"][moment], figures["interval"][moment]),
                with_interval(minus["mean"], minus["interval"], "+") if minus else "",
                f"{figures['env_steps']:.0f}" if last else "",
                f"{figures['seconds']:.0f}" if last else "",
            )
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--algo", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5, help="1 to this; no verdict with fewer than 3")
    parser.add_argument("--env-steps", type=int, help="in place of each algorithm's own, for a quick look")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    for key in ("seeds", "env_steps"):
        value = getattr(options, key)
        if value is not None and value < 1:
            parser.error(f"--{key.replace('_', '-')} {value}: must be at least 1")
    torch.set_num_threads(1)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)  # RLlib says of each build which stack it is on
    warnings.filterwarnings("ignore", message=".*Overriding environment rllib-single-agent-env-v0")
    results = []
    with connect(dashboard=False, num_cpus=1):
        for task in options.task:
            register_env(task, partial(make_env, task))
            for algorithm in options.algo:
                settings = SETTINGS[algorithm]
                if options.env_steps is not None:
                    settings = settings.model_copy(update={"env_steps": options.env_steps})
                results.append(study(task, algorithm, settings, options.seeds))
    if options.json:
        made_with = versions() | {"stable-baselines3": stable_baselines3.__version__}
        print(json.dumps({"versions": made_with, "episodes": EPISODES, "results": results}, indent=1))
    console = Console(width=None if sys.stdout.isatty() else 100, stderr=options.json)
    for result in results:
        print_table(console, result, options.seeds)
    worse = [
        f"{result['task']}, {result['algorithm']}, {moment}: ours is {-found['mean']:.3f} worse than {name}"
        for result in results
        for name, moments in result["differences"].items()
        for moment, found in moments.items()
        if found["worse"]
    ]
    for line in worse:
        print(line, file=sys.stderr)
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
