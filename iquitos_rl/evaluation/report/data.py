"""What a report is made of: plain data, so that a report needs no simulator and no checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

__all__ = ["ReportData", "Row"]

Row = Mapping[str, Any]
"""One controller of the comparison; `ReportData.rows` says with which keys."""


@dataclass(frozen=True)
class ReportData:
    """The only input of a report.

    Attributes:
        title: name of the experiment.
        site, split, year, engine, dataset_fingerprint: what the controllers were evaluated on.
        window: ``start_step`` and ``steps`` (hours) of that year.
        versions: of the libraries, by name.
        generated: when, as ISO 8601.
        demonstration: whether budgets were too small to learn; the report then says so at the top.
        minimum_satisfaction: the service gate, a share 0-1.
        rows: one mapping per controller in the order of the ladder, no control first: the KPI keys of
            `iquitos_rl.kpis`, ``controller``, ``kind`` ("rule", "optimum" or "agent"), ``score``,
            ``score_components``, ``import_change_share``, ``co2_change_share``, ``cost_change_share``,
            ``captured_share`` (None without an optimum), ``meets_service``; optionally ``expected``,
            ``training_seconds``, ``seeds``, ``intervals`` (KPI -> [low, high], 95 %),
            ``ev_satisfaction_by_class`` and the further figures that `tables.DETAILS` lists.
            What is missing or None is shown as a dash.
        hours: hourly flows (kWh) of some controllers, columns of `iquitos_rl.kpis.HOURLY_COLUMNS` and
            ``bess_stored_kwh``.
        departures: of some controllers one row per departed vehicle: ``socket``, ``vehicle_class``,
            ``arrival_hour_of_year``, ``departure_hour_of_year``, ``arrival_soc``, ``soc``,
            ``required_soc``, ``capacity_kwh``, ``satisfaction``, ``unserved_kwh``.
        learning: of some agents ``env_steps``, ``validation_score``, ``validation_satisfaction``.
        frontier: ``ev_satisfaction``, ``grid_import_kwh``: the least import possible for a satisfaction.
        bess_capacity_kwh: to show what the BESS holds as a state of charge; in kWh without it.
    """

    title: str
    site: str
    split: str
    year: int
    window: Mapping[str, int]
    engine: str
    dataset_fingerprint: str
    versions: Mapping[str, str]
    generated: str
    demonstration: bool
    minimum_satisfaction: float
    rows: list[dict[str, Any]]
    hours: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    departures: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    learning: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    frontier: pd.DataFrame | None = None
    bess_capacity_kwh: float | None = None
