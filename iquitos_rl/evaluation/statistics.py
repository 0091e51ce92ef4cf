"""Several seeds of one agent as one result: means, and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

__all__ = ["CONFIDENCE", "MINIMUM_SEEDS", "confidence_interval", "over_seeds"]

CONFIDENCE = 0.95
MINIMUM_SEEDS = 3
"""Fewer say nothing of the spread."""


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean (Student's t); None for fewer than `MINIMUM_SEEDS` values."""
    if len(values) < MINIMUM_SEEDS:
        return None
    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def over_seeds(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One result for several seeds.

    Every number is the mean over the seeds. What is no number (profiles, the files beside a result) is that
    of the seed with the median score.

    Returns:
        The result, with ``seeds`` (their number), ``seed_results`` (the scores and satisfactions by seed) and
        ``intervals`` (95 % by KPI; empty for fewer than three seeds).
    """
    median = sorted(results, key=lambda r: float(r["score"]))[(len(results) - 1) // 2]
    merged: dict[str, Any] = dict(median)
    intervals: dict[str, list[float]] = {}
    for name, value in median.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or name in ("year", "seed"):
            continue
        values = [float(r[name]) for r in results if isinstance(r.get(name), int | float)]
        merged[name] = value if len(set(values)) == 1 else math.fsum(values) / len(values)
        interval = confidence_interval(values) if len(values) == len(results) else None
        if interval is not None:
            intervals[name] = list(interval)
    for name in ("score_components", "ev_satisfaction_by_class"):
        if isinstance(median.get(name), Mapping):
            merged[name] = {
                key: math.fsum(r[name].get(key, math.nan) for r in results) / len(results)
                for key in median[name]
            }
    merged["seeds"] = len(results)
    merged["intervals"] = intervals
    merged["seed_results"] = [
        {key: r.get(key) for key in ("seed", "score", "ev_satisfaction", "grid_import_kwh", "experiment")}
        for r in results
    ]
    return merged
