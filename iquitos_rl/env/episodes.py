"""Which hours an episode covers: the same choice for one environment and for many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from gymnasium.utils import seeding

__all__ = [
    "OBSERVATIONS",
    "WINDOW_OPTIONS",
    "Observation",
    "RandomStart",
    "Windows",
    "generator",
    "schema_paths",
]

Observation = Literal["features", "raw"]
RandomStart = Literal["day", "hour"] | None

OBSERVATIONS = ("features", "raw")
WINDOW_OPTIONS = ("year", "start_step")
"""Options of a reset that choose the window of an episode."""
HOURS_PER_DAY = 24


def schema_paths(schema: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """The schemas of an environment as paths.

    Raises:
        ValueError: there are none.
        FileNotFoundError: one is not there.
    """
    paths = tuple(Path(path) for path in ([schema] if isinstance(schema, str | Path) else schema))
    if not paths:
        raise ValueError("no schema given")
    for path in paths:
        if not path.is_file():
            in_dataset = path.parent.name.startswith("year_")
            where = f" --out {path.absolute().parents[2]}" if in_dataset else ""
            raise FileNotFoundError(
                f"no CityLearn schema at {path}; make one with: iquitos-rl dataset build{where}"
            )
    return paths


def generator(seed: int, stream: int = 0) -> np.random.Generator:
    """The random generator that chooses an environment's windows: Gymnasium's, or one of its ``stream``."""
    return np.random.default_rng([seed, stream]) if stream else seeding.np_random(seed)[0]


class Windows:
    """The windows that episodes may cover.

    Args:
        rows: number of rows of each year; they give one step less.
        steps: length of an episode; to the end of the data if None.
        random_start: ``"day"``, ``"hour"``, or None for ``start_step``.
        start_step: first row, without a random start.

    Raises:
        ValueError: arguments that contradict each other or the data.
    """

    def __init__(
        self, rows: Sequence[int], steps: int | None, random_start: RandomStart, start_step: int
    ) -> None:
        if random_start not in ("day", "hour", None):
            raise ValueError(f"random_start {random_start!r}: expected 'day', 'hour' or None")
        self._rows = tuple(int(count) for count in rows)
        shortest = min(self._rows)
        self.steps = shortest - 1 - start_step if steps is None else steps
        self._random_start = random_start
        self._start_step = start_step
        if not 1 <= self.steps <= shortest - 1 - (0 if random_start else start_step):
            raise ValueError(
                f"episode_steps {steps} from start_step {start_step}: the data has {shortest - 1} steps"
            )

    def choose(
        self, random: np.random.Generator, year: int | None = None, start: int | None = None
    ) -> tuple[int, int]:
        """Year and first row of the next episode; ``year`` and ``start`` override the choice.

        The same numbers are drawn whether or not they are used, so that overriding one episode's window
        changes no other's.

        Raises:
            ValueError: a year or a window that the data does not have.
        """
        drawn = int(random.integers(len(self._rows)))
        year = drawn if year is None else int(year)
        if not 0 <= year < len(self._rows):
            raise ValueError(f"year {year}: there are {len(self._rows)}")
        steps = self._rows[year] - 1
        drawn = self._draw_start(random, steps - self.steps)
        start = drawn if start is None else int(start)
        if not 0 <= start <= steps - self.steps:
            raise ValueError(f"start_step {start} leaves no room for {self.steps} of {steps} steps")
        return year, start

    def _draw_start(self, random: np.random.Generator, latest: int) -> int:
        if self._random_start is None:
            return self._start_step
        if self._random_start == "hour":
            return int(random.integers(latest + 1))
        return int(random.integers(latest // HOURS_PER_DAY + 1)) * HOURS_PER_DAY
