"""How many environment steps a second: bare CityLearn, and the batch engine for many environments."""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from iquitos_rl.bench.temporary_site import temporary_site
from iquitos_rl.config.site import SiteConfig
from iquitos_rl.env import BatchVectorEnv
from iquitos_rl.tables import plain_table

__all__ = ["ENVIRONMENTS", "EngineBenchmark", "bench_engine", "engine_table", "present_objects_kept"]

ENVIRONMENTS = (1, 16, 64, 256, 1024)
WEEK = 168
TURN_STEPS = 12
"""Steps of CityLearn in a turn: the engines take turns of a fraction of a second within each measurement."""
TURN_SECONDS = 0.1
"""About how long a turn of the batch engine takes."""
VECTOR_YEARS = 5
VECTOR_ENVIRONMENTS = 64

Say = Callable[[str], None]


@dataclass(frozen=True)
class EngineBenchmark:
    """Medians of several measurements, taken in turn.

    Attributes:
        site: what was simulated.
        sockets: number of sockets.
        citylearn_steps_per_s: of a bare ``CityLearnEnv``: flat, central agent, its default reward.
        batch_steps_per_s: of `BatchVectorEnv` with its features, by number of environments.
        ratio: of the two, by number of environments.
        construction_s: of a vector of 64 environments over five years, with a warm cache.
        construction_mb: resident memory that it takes, mapped tables included; None where the system does
            not tell.
        citylearn_construction_s: of the bare ``CityLearnEnv`` over one year.
    """

    site: str
    sockets: int
    citylearn_steps_per_s: float
    batch_steps_per_s: dict[int, float]
    ratio: dict[int, float]
    construction_s: float
    construction_mb: float | None
    citylearn_construction_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def bench_engine(
    site: SiteConfig,
    environments: Sequence[int] = ENVIRONMENTS,
    *,
    repeats: int = 3,
    citylearn_steps: int = WEEK,
    say: Say = lambda text: None,
) -> EngineBenchmark:
    """Measure both engines on one core, in short turns, so that a busy machine slows both of them.

    Args:
        site: its dataset is made in a temporary folder.
        environments: numbers of environments.
        repeats: measurements of each; their median counts.
        citylearn_steps: that CityLearn is measured over, from the first day on; in turns of `TURN_STEPS`.
        say: told what is going on.
    """
    say("building seven years of the site")
    with temporary_site(site, VECTOR_YEARS) as dataset:
        schemas = [dataset.schema_path("train", year) for year in range(VECTOR_YEARS)]
        _vector(schemas, 1)  # fills the cache
        # In a process of its own, because memory that this one has had before would not show.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            construction_s, construction_mb = pool.apply(_construct, (schemas,))
        say("constructing CityLearn")
        started = time.perf_counter()
        citylearn = _citylearn(schemas[0], citylearn_steps)
        citylearn_construction_s = time.perf_counter() - started
        batches = {count: _Batch(_vector(schemas, count)) for count in environments}
        citylearn_rates: list[float] = []
        rates: dict[int, list[float]] = {count: [] for count in environments}
        with present_objects_kept():
            for repeat in range(repeats):
                say(f"measurement {repeat + 1} of {repeats}")
                seconds: dict[int, list[float]] = {count: [] for count in environments}
                turns = []
                for turn in citylearn():
                    turns.append(turn)
                    for count, batch in batches.items():
                        seconds[count].append(batch.turn())
                citylearn_rates.append(citylearn_steps / sum(turns))
                for count, batch in batches.items():
                    rates[count].append(len(turns) * count * batch.steps / sum(seconds[count]))
    reference = statistics.median(citylearn_rates)
    batch_rates = {count: statistics.median(values) for count, values in rates.items()}
    return EngineBenchmark(
        site=site.name,
        sockets=site.socket_count,
        citylearn_steps_per_s=reference,
        batch_steps_per_s=batch_rates,
        ratio={count: rate / reference for count, rate in batch_rates.items()},
        construction_s=construction_s,
        construction_mb=construction_mb,
        citylearn_construction_s=citylearn_construction_s,
    )


@contextmanager
def present_objects_kept() -> Iterator[None]:
    """CityLearn's many objects would be searched for garbage again and again while others are measured."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _vector(schemas: Sequence[Path], environments: int) -> BatchVectorEnv:
    return BatchVectorEnv(schemas, environments, episode_steps=WEEK, random_start="day")


def _construct(schemas: Sequence[Path]) -> tuple[float, float | None]:
    """Seconds and memory (MB) that a vector environment takes until it is ready to step."""
    before = _memory_mb()
    started = time.perf_counter()
    vector = _vector(schemas, VECTOR_ENVIRONMENTS)
    vector.reset(seed=0)
    seconds = time.perf_counter() - started
    after = _memory_mb()
    return seconds, None if before is None or after is None else after - before


def _memory_mb() -> float | None:
    """Resident memory of this process, where Linux tells it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _citylearn(schema: Path, steps: int) -> Callable[[], Iterator[float]]:
    from citylearn.citylearn import CityLearnEnv

    env = CityLearnEnv(str(schema), central_agent=True, episode_time_steps=steps + 1, random_seed=0)
    action = [[0.0] + [1.0] * (len(env.action_names[0]) - 1)]

    def turns() -> Iterator[float]:
        """Seconds of each turn, for the steps alone."""
        env.reset()
        for first in range(0, steps, TURN_STEPS):
            started = time.perf_counter()
            for _ in range(first, min(first + TURN_STEPS, steps)):
                env.step(action)
            yield time.perf_counter() - started

    return turns


class _Batch:
    """Random actions from a few arrays made beforehand: choosing them is not what is measured."""

    def __init__(self, vector: BatchVectorEnv) -> None:
        random = np.random.default_rng(0)
        low, high = vector.single_action_space.low, vector.single_action_space.high
        shape = (vector.num_envs, len(low))
        self._actions = [random.uniform(low, high, shape).astype(np.float32) for _ in range(8)]
        self._vector = vector
        self.steps = WEEK
        vector.reset(seed=0)
        # Whole days, of which some are the ends of episodes.
        self.steps = 24 * max(1, round(TURN_SECONDS / self.turn() * WEEK / 24))

    def turn(self) -> float:
        """Seconds for `steps` steps of the vector, resets at the ends of episodes included."""
        started = time.perf_counter()
        for k in range(self.steps):
            self._vector.step(self._actions[k % len(self._actions)])
        return time.perf_counter() - started


def engine_table(benchmark: EngineBenchmark) -> Table:
    """The benchmark as a table."""
    table = plain_table(f"{benchmark.site}, {benchmark.sockets} sockets, one core")
    table.add_column("engine")
    for heading in ("environments", "env-steps/s", "ratio"):
        table.add_column(heading, justify="right")
    table.add_row("CityLearnEnv, bare", "1", f"{benchmark.citylearn_steps_per_s:.1f}", "1")
    for count, rate in benchmark.batch_steps_per_s.items():
        table.add_row("batch, features", f"{count:,}", f"{rate:,.0f}", f"{benchmark.ratio[count]:,.0f}")
    memory = "" if benchmark.construction_mb is None else f", {benchmark.construction_mb:.0f} MB"
    table.caption = (
        f"{VECTOR_ENVIRONMENTS} environments over {VECTOR_YEARS} years are ready in "
        f"{benchmark.construction_s:.2f} s{memory} (tables in the cache); CityLearn over one year in "
        f"{benchmark.citylearn_construction_s:.1f} s"
    )
    return table
