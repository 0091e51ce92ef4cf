"""How fast is training: ours, RLlib as it is, a bare PyTorch loop, Stable-Baselines3 on CityLearn."""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from iquitos_rl.algorithms import build_algorithm_config
from iquitos_rl.bench.contenders import (
    BareLoop,
    Contender,
    EnvironmentAlone,
    RLlibTraining,
    StableBaselines3,
    Turn,
    bare_loop_path,
    load_bare_loop,
)
from iquitos_rl.bench.engine import present_objects_kept
from iquitos_rl.bench.stock_rllib import CPUS_PER_ENV_RUNNER, stock_config
from iquitos_rl.bench.temporary_site import temporary_site
from iquitos_rl.bench.workload import Workload
from iquitos_rl.checks.agents import quiet_rllib
from iquitos_rl.config import RunConfig
from iquitos_rl.env import ENV_ID, EVChargingEnv, make_env, register
from iquitos_rl.site import Dataset
from iquitos_rl.training.cluster import connect
from iquitos_rl.training.trainable import training_env_config

__all__ = ["ALGORITHMS", "BARS", "Rate", "TrainingBenchmark", "bench_training"]

ALGORITHMS = ("ppo", "a2c", "sac")
TRAIN_YEARS = 2
TURNS = {"ppo": 4, "a2c": 12, "sac": 1}
"""Turns in a measurement: some seconds of each contender. CityLearn takes one."""
SWEEP_TURNS = 2
MINIBATCH_SIZES = (128, 512, 2048)
ENV_RUNNERS = (0, 1, 2)
LONGEST_WARM_UP_TURNS = 1_000

OURS, RLLIB, BARE, SB3, ENVIRONMENT = "ours", "RLlib", "bare loop", "SB3 on CityLearn", "env alone"
REFERENCES = {"vs_bare": BARE, "vs_rllib": RLLIB, "vs_sb3_citylearn": SB3}
ENV_SHARE = "ppo.env_share"
"""The time of the environment's steps alone, as a share of PPO's; all others: how often faster ours is."""
BARS = {
    "ppo.vs_bare": 0.9,
    "a2c.vs_bare": 0.7,
    "sac.vs_bare": 0.75,
    "ppo.vs_rllib": 1.4,
    "a2c.vs_rllib": 2.0,
    "sac.vs_rllib": 3.5,
    "ppo.vs_sb3_citylearn": 50.0,
    "a2c.vs_sb3_citylearn": 250.0,
    ENV_SHARE: 0.05,
}
"""The least that is wanted; of the environment's share, the most."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Rate:
    """How fast one contender was.

    Attributes:
        algorithm: a2c, ppo or sac.
        contender: who.
        minibatch_size: samples per gradient step; on CityLearn at most `Workload.citylearn_steps`. None = the
            whole rollout.
        env_runners: remote sampling processes.
        unit: what is counted: env_steps; for SAC updates, of which it makes one per environment step.
        per_s: of these per second over sampling and learning, the median of the measurements.
        per_s_repeats: each measurement.
        sampling_ms: of one, spent outside of learning.
        learning_ms: of one, spent in the update and in drawing from the replay buffer.
        cpu_ms: of one, CPU time of this process, the median of the measurements.
        cpu_ms_repeats: each measurement.
    """

    algorithm: str
    contender: str
    minibatch_size: int | None
    env_runners: int
    unit: str
    per_s: float
    per_s_repeats: tuple[float, ...]
    sampling_ms: float
    learning_ms: float
    cpu_ms: float
    cpu_ms_repeats: tuple[float, ...]


@dataclass(frozen=True)
class TrainingBenchmark:
    """Rates of all contenders and the ratios between them.

    Attributes:
        site: what was trained on.
        sockets: number of sockets.
        workload: sizes of the comparisons that the ratios are of.
        rates: one of each contender in each comparison.
        remarks: what was left out, and why.
    """

    site: str
    sockets: int
    workload: Workload
    rates: tuple[Rate, ...]
    remarks: tuple[str, ...]

    @cached_property
    def ratios(self) -> dict[str, float]:
        """The named ratios: medians over the measurements, in each of which the contenders took turns."""
        return self._ratios(lambda rate: rate.per_s_repeats)

    @cached_property
    def cpu_ratios(self) -> dict[str, float]:
        """The same by CPU time: what other processes take from the machine is not in it."""
        return self._ratios(lambda rate: tuple(1000 / spent_ms for spent_ms in rate.cpu_ms_repeats))

    def _ratios(self, repeats: Callable[[Rate], tuple[float, ...]]) -> dict[str, float]:
        def ratio(numerator: Rate, denominator: Rate) -> float:
            pairs = zip(repeats(numerator), repeats(denominator), strict=True)
            return statistics.median(a / b for a, b in pairs)

        named: dict[str, dict[str, Rate]] = {rate.algorithm: {} for rate in self.rates}
        for rate in self.rates:
            if self.is_named(rate):
                named[rate.algorithm][rate.contender] = rate
        ratios = {}
        for algorithm, rates in named.items():
            for name, reference in REFERENCES.items():
                if reference in rates:
                    ratios[f"{algorithm}.{name}"] = ratio(rates[OURS], rates[reference])
        if ENVIRONMENT in named.get("ppo", {}):
            ratios[ENV_SHARE] = ratio(named["ppo"][OURS], named["ppo"][ENVIRONMENT])
        return ratios

    def is_named(self, rate: Rate) -> bool:
        """Whether a rate belongs to the comparisons that the named ratios are of."""
        size = self.workload.samples_per_update(rate.algorithm)
        return rate.minibatch_size == size and rate.env_runners == self.workload.env_runners

    def meets(self, name: str) -> bool:
        """Whether a ratio is what is wanted. Raises KeyError where there is no bar."""
        return self.ratios[name] <= BARS[name] if name == ENV_SHARE else self.ratios[name] >= BARS[name]

    def to_json(self) -> dict[str, Any]:
        """Plain values; the ratios by their names at the top level."""
        return {
            "site": self.site,
            "sockets": self.sockets,
            "workload": asdict(self.workload),
            **self.ratios,
            "bars": {
                name: {"bar": BARS[name], "met": self.meets(name)} for name in self.ratios if name in BARS
            },
            "cpu_ratios": self.cpu_ratios,
            "rates": [asdict(rate) for rate in self.rates],
            "remarks": list(self.remarks),
        }


def bench_training(
    run: RunConfig,
    *,
    algorithms: Sequence[str] = ALGORITHMS,
    workload: Workload | None = None,
    repeats: int = 3,
    with_sb3: bool = False,
    minibatch_sizes: Sequence[int] = MINIBATCH_SIZES,
    env_runners: Sequence[int] = ENV_RUNNERS,
    bare_loop: Path | None = None,
    say: Say = lambda text: None,
) -> TrainingBenchmark:
    """Measure all contenders in this process, in turns of one iteration, with one thread.

    Whatever else the machine does then slows all of them alike, so that ratios hold where rates do not.

    Args:
        run: its site, environment and hyperparameters; the sizes are the workload's.
        algorithms: which.
        workload: sizes; those of the named ratios if None.
        repeats: measurements; their median counts.
        with_sb3: whether Stable-Baselines3 on CityLearn takes part, which takes minutes.
        minibatch_sizes: of PPO, measured besides the workload's.
        env_runners: numbers of remote samplers of PPO, measured besides the workload's.
        bare_loop: its script; that of the checkout if None.
        say: told what is going on.

    Raises:
        ImportError: Stable-Baselines3 is wanted but not installed.
        ValueError: sizes that do not divide.
    """
    if with_sb3 and importlib.util.find_spec("stable_baselines3") is None:
        raise ImportError(
            "--with-sb3: Stable-Baselines3 is not installed; it comes with the checkout's dev extra: "
            "pip install -e '.[dev]'"
        )
    path = bare_loop or bare_loop_path()
    module = load_bare_loop(path)
    remarks = [] if module else [f"no bare loop: {path} is not there; experiments come with a checkout only"]
    for remark in remarks:
        say(remark)
    workload = workload or Workload()
    say(f"building {run.site.name}")
    with ExitStack() as stack:
        dataset = stack.enter_context(temporary_site(run.site, TRAIN_YEARS))
        stack.enter_context(_one_thread())
        stack.enter_context(quiet_rllib())
        stack.enter_context(connect("local", dashboard=False))
        register()
        arena = _Arena(run, dataset, module, repeats, say)
        if with_sb3:
            stack.enter_context(closing(arena.construct_citylearn()))
        rates: list[Rate] = []
        for algorithm in algorithms:
            rates += arena.measure(algorithm, workload, TURNS[algorithm], named=True)
        if "ppo" in algorithms:
            for size in minibatch_sizes:
                if size != workload.minibatch_size:
                    rates += arena.measure("ppo", replace(workload, minibatch_size=size), SWEEP_TURNS)
            for count in env_runners:
                if count != workload.env_runners:
                    rates += arena.measure("ppo", replace(workload, env_runners=count), SWEEP_TURNS)
    return TrainingBenchmark(run.site.name, run.site.socket_count, workload, tuple(rates), tuple(remarks))


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch, here and in the processes that are started within."""
    threads, before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


class _Arena:
    """Where contenders meet: on one dataset, in turns."""

    def __init__(
        self, run: RunConfig, dataset: Dataset, bare_loop: ModuleType | None, repeats: int, say: Say
    ) -> None:
        environment = run.environment.model_copy(update={"engine": "batch", "years": None})
        self._run = run.model_copy(update={"environment": environment})
        self._env_config = training_env_config(self._run, dataset)
        self._schema = dataset.schema_path("train", 0)
        self._bare_loop = bare_loop
        self._citylearn: EVChargingEnv | None = None
        self._repeats = repeats
        self._say = say

    def construct_citylearn(self) -> EVChargingEnv:
        """The environment of Stable-Baselines3. Whole years, because each of its resets takes seconds."""
        self._say("constructing CityLearn")
        environment = self._run.environment
        self._citylearn = make_env(
            self._schema,
            "citylearn",
            observation=environment.observation,
            mask_idle=environment.mask_idle,
        )
        return self._citylearn

    def measure(self, algorithm: str, workload: Workload, turns: int, *, named: bool = False) -> list[Rate]:
        """Rates of all contenders of one comparison; of all there are if named ratios are made of them."""
        title = f"{algorithm}, {workload.describe(algorithm)}"
        with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="iquitos_rl-bench-") as folder:
            contenders = {}
            for name, make in self._makers(algorithm, workload, named, Path(folder)).items():
                self._say(f"{title}: {name} warms up")
                contenders[name] = stack.enter_context(closing(make()))
                if name != ENVIRONMENT:
                    _warm_up(contenders[name])
            turned: list[dict[str, list[Turn]]] = []
            with present_objects_kept():
                for repeat in range(self._repeats):
                    self._say(f"{title}: measurement {repeat + 1} of {self._repeats}")
                    turned.append(_take_turns(contenders, turns))
        return [
            _rate(algorithm, name, workload, [measurement[name] for measurement in turned])
            for name in contenders
        ]

    def _makers(
        self, algorithm: str, workload: Workload, named: bool, folder: Path
    ) -> dict[str, Callable[[], Contender]]:
        settings = workload.settings(self._run, algorithm)
        ours: AlgorithmConfig = build_algorithm_config(
            settings,
            env=ENV_ID,
            env_config=self._env_config,
            num_envs=workload.envs_per_runner,
            num_env_runners=workload.env_runners,
            num_cpus_per_env_runner=CPUS_PER_ENV_RUNNER,
            seed=0,
            vectorize_mode="vector_entry_point",
        )
        stock = stock_config(settings, workload, self._env_config)
        size = workload.samples_per_update(algorithm)
        makers: dict[str, Callable[[], Contender]] = {
            OURS: lambda: RLlibTraining(ours, folder / "ours", size),
            RLLIB: lambda: RLlibTraining(stock, folder / "stock", size),
        }
        module, citylearn = self._bare_loop, self._citylearn
        if module is not None and not workload.env_runners:  # it has no remote samplers
            makers[BARE] = lambda: BareLoop(module, settings, workload, self._env_config)
        if named and algorithm == "ppo":
            makers[ENVIRONMENT] = lambda: EnvironmentAlone(workload, self._env_config)
        if named and citylearn is not None:
            makers[SB3] = lambda: StableBaselines3(settings, workload, citylearn)
        return makers


def _warm_up(contender: Contender) -> None:
    """Until it has learnt once: SAC's buffer is full enough then, and what is made at first is made."""
    for _ in range(LONGEST_WARM_UP_TURNS):
        if contender.turn().updates:
            return
    raise RuntimeError("a contender of the training benchmark never makes an update")


def _take_turns(contenders: Mapping[str, Contender], turns: int) -> dict[str, list[Turn]]:
    turned: dict[str, list[Turn]] = {name: [] for name in contenders}
    for turn in range(turns):
        for name, contender in contenders.items():
            if turn == 0 or name != SB3:  # its turn takes as long as all others' together
                turned[name].append(contender.turn())
    return turned


def _rate(algorithm: str, name: str, workload: Workload, measurements: Sequence[Sequence[Turn]]) -> Rate:
    unit = "updates" if algorithm == "sac" else "env_steps"

    def per_unit(seconds: Callable[[Turn], float]) -> list[float]:
        return [
            sum(map(seconds, turns)) / sum(getattr(turn, unit) for turn in turns) for turns in measurements
        ]

    cpu_ms = [1000 * seconds for seconds in per_unit(lambda turn: turn.cpu_s)]
    per_s = [1 / seconds for seconds in per_unit(lambda turn: turn.seconds)]
    return Rate(
        algorithm=algorithm,
        contender=name,
        minibatch_size=workload.samples_per_update(algorithm),
        env_runners=workload.env_runners,
        unit=unit,
        per_s=statistics.median(per_s),
        per_s_repeats=tuple(per_s),
        sampling_ms=1000 * statistics.median(per_unit(lambda turn: turn.seconds - turn.learning_s)),
        learning_ms=1000 * statistics.median(per_unit(lambda turn: turn.learning_s)),
        cpu_ms=statistics.median(cpu_ms),
        cpu_ms_repeats=tuple(cpu_ms),
    )
