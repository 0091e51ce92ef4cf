"""The year every dataset is made of: 365 days of 24 hours, day 0 a Monday, and its random streams."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "DAYS_PER_YEAR",
    "DAY_OF_ROW",
    "HOURS_PER_DAY",
    "HOURS_PER_YEAR",
    "HOUR_OF_ROW",
    "MONTH_OF_ROW",
    "SPLITS",
    "STEPS_PER_YEAR",
    "WEEKDAY_OF_ROW",
    "Split",
    "in_hours",
    "mid_hour_times",
    "random_stream",
]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""What years are for. The position in this tuple enters the random streams: never reorder."""

Stream = Literal["sun", "load", "sessions", "vehicles"]
_STREAMS: tuple[Stream, ...] = get_args(Stream)

HOURS_PER_DAY = 24
DAYS_PER_YEAR = 365
HOURS_PER_YEAR = HOURS_PER_DAY * DAYS_PER_YEAR
STEPS_PER_YEAR = HOURS_PER_YEAR - 1
"""CityLearn takes one step fewer than there are rows: the last row is only observed."""

_CALENDAR_YEAR = 2018
"""Gives months and sun positions: no leap year, and 1 January is a Monday."""


def mid_hour_times(utc_offset_hours: int = 0) -> pd.DatetimeIndex:
    """The middle of each of the 8,760 hours in local standard time.

    The sun's position half-way through an hour stands for the whole hour; positions at its start would shift
    the generation of a day by half an hour.
    """
    zone = timezone(timedelta(hours=utc_offset_hours))
    start = pd.Timestamp(year=_CALENDAR_YEAR, month=1, day=1, minute=30, tz=zone)
    return pd.date_range(start, periods=HOURS_PER_YEAR, freq="h")


def _read_only(values: NDArray[np.int64]) -> NDArray[np.int64]:
    values.setflags(write=False)
    return values


DAY_OF_ROW = _read_only(np.arange(HOURS_PER_YEAR) // HOURS_PER_DAY)
"""Day of the year 0-364 of each row."""
HOUR_OF_ROW = _read_only(np.arange(HOURS_PER_YEAR) % HOURS_PER_DAY)
"""Hour of the day 0-23 of each row. CityLearn's column ``hour`` is this plus 1."""
WEEKDAY_OF_ROW = _read_only(DAY_OF_ROW % 7)
"""Weekday 0-6 of each row, Monday 0. CityLearn's column ``day_type`` is this plus 1."""
MONTH_OF_ROW = _read_only(np.array(mid_hour_times().month, dtype=np.int64))
"""Month 1-12 of each row."""


def in_hours(hours: NDArray[np.int64], hour_range: tuple[int, int]) -> NDArray[np.bool_]:
    """Which of ``hours`` (0-23) lie in the range a <= hour < b."""
    first, end = hour_range
    return (hours >= first) & (hours < end)


def random_stream(seed: int, split: Split, year: int, stream: Stream) -> np.random.Generator:
    """The generator of one purpose of one year.

    Every purpose has its own, so that, say, other arrival rates leave the sun of a seed as it was.
    """
    entropy = [seed, SPLITS.index(split), year, _STREAMS.index(stream)]
    return np.random.default_rng(np.random.SeedSequence(entropy))
