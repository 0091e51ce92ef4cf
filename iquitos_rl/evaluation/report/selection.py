"""Which controllers and which days a report shows in detail, chosen from the data alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.report.data import ReportData, Row
from iquitos_rl.kpis import HOURS_PER_DAY

__all__ = ["Days", "best_of", "chosen_controllers", "representative_days"]

CLOUDY_RANK = 0.05
"""The cloudy day is the one at this share of the days sorted by PV."""


def best_of(rows: Sequence[Row], kind: str, among: Collection[str] | None = None) -> Row | None:
    """The lowest score of a kind, among those that meet the service if there is one; None without any.

    No control is the baseline, never the best rule. ``among`` limits the choice to some controllers.
    """
    of_kind = [
        row
        for row in rows
        if row["kind"] == kind
        and row["controller"] != BASELINE
        and (among is None or row["controller"] in among)
    ]
    serving = [row for row in of_kind if row["meets_service"]]
    return min(serving or of_kind, key=lambda row: row["score"], default=None)


def chosen_controllers(data: ReportData, available: Collection[str]) -> list[Row]:
    """No control, the best rule, the best agent and the optimum: those that are available."""
    baseline = next((row for row in data.rows if row["controller"] == BASELINE), None)
    chosen = [
        baseline if BASELINE in available else None,
        *(best_of(data.rows, kind, available) for kind in ("rule", "agent", "optimum")),
    ]
    return [row for row in chosen if row is not None]


@dataclass(frozen=True)
class Days:
    """Days of the year (0 is the first) with all 24 hours in the data.

    Attributes:
        typical: the day whose PV is the median.
        cloudy: the day at the 5th percentile of PV; None if it is the typical day, or without PV.
        by_pv: False where there is no PV: the typical day is then the one of median load.
        count: how many whole days there were to choose from.
    """

    typical: int
    cloudy: int | None
    by_pv: bool
    count: int


def representative_days(hours: pd.DataFrame) -> Days | None:
    """The typical and the cloudy day of some hourly flows; None without a whole day.

    Days are sorted by their PV (kWh), the earlier one first among equals. Of n days, the typical one has rank
    (n - 1) // 2 and the cloudy one rank ceil(0.05 n) - 1 (nearest rank), counted from 0.
    """
    day = hours["hour_of_year"].to_numpy(np.int64) // HOURS_PER_DAY
    sums = hours[["pv_generation_kwh", "load_kwh"]].groupby(day).sum()
    sums = sums[pd.Series(day).groupby(day).size() == HOURS_PER_DAY]
    if sums.empty:
        return None
    by_pv = bool(sums["pv_generation_kwh"].sum() > 0)
    ranked = sums["pv_generation_kwh" if by_pv else "load_kwh"].sort_values(kind="stable").index
    typical = int(ranked[(len(ranked) - 1) // 2])
    cloudy = int(ranked[math.ceil(CLOUDY_RANK * len(ranked)) - 1])
    return Days(typical, cloudy if by_pv and cloudy != typical else None, by_pv, len(ranked))
