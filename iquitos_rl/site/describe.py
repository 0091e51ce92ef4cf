"""What is in a dataset, as numbers a person can judge it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iquitos_rl.site.dataset import Dataset, load_dataset
from iquitos_rl.site.no_control import no_control_hours
from iquitos_rl.site.schema import read_year
from iquitos_rl.site.timeline import DAYS_PER_YEAR, STEPS_PER_YEAR

__all__ = ["describe_dataset"]


def describe_dataset(path: Path | str | Dataset) -> dict[str, Any]:
    """Describe a dataset as plain values (printable, and JSON).

    Keys: ``path site description seed table_format fingerprint size_bytes files sockets installed_power_kw
    feeder_limit_kw`` and ``years``, a list with one mapping per year: ``split year pv_generation_kwh
    load_kwh sessions_per_day mean_dwell_hours``, ``unlimited_ev_draw_kwh`` and ``ceiling_ev_satisfaction``
    (every socket at full power, no feeder limit: more is physically impossible) and ``no_control``, the KPIs
    of no control under their project-wide names, its score included, which is 1 by definition.

    Raises:
        DatasetError: there is no dataset, or a file of it is damaged.
    """
    dataset = path if isinstance(path, Dataset) else load_dataset(path)
    site = dataset.site
    files = [file for file in dataset.path.rglob("*") if file.is_file()]
    return {
        "path": str(dataset.path),
        "site": site.name,
        "description": site.description,
        "seed": dataset.seed,
        "table_format": dataset.table_format,
        "fingerprint": dataset.fingerprint,
        "size_bytes": sum(file.stat().st_size for file in files),
        "files": len(files),
        "sockets": site.socket_count,
        "installed_power_kw": site.installed_power_kw,
        "feeder_limit_kw": site.feeder_limit_kw,
        "years": [_describe_year(dataset, split, year) for split, year in dataset.all_years()],
    }


def _describe_year(dataset: Dataset, split: str, year: int) -> dict[str, Any]:
    data = read_year(dataset.year_path(split, year))
    free = no_control_hours(data, feeder_limited=False).iloc[:STEPS_PER_YEAR]
    departures = int(free["ev_departures"].sum())
    kpis = {
        name: value
        for name, value in dataset.no_control_totals(split, year).items()
        if name not in ("reference", "site", "split", "year")
    }
    return {
        "split": split,
        "year": year,
        "pv_generation_kwh": float(data.pv_generation_kwh.sum()),
        "load_kwh": float(data.load_kwh.sum()),
        "sessions_per_day": len(data.sessions) / DAYS_PER_YEAR,
        "mean_dwell_hours": float(data.sessions.dwell.mean()) if len(data.sessions) else None,
        "unlimited_ev_draw_kwh": float(free["ev_draw_kwh"].sum()),
        "ceiling_ev_satisfaction": (
            1.0 - float(free["satisfaction_shortfall"].sum()) / departures if departures else None
        ),
        "no_control": {**kpis, "score": 1.0},
    }
