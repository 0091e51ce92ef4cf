"""From folders of results to the files of a comparison: ``comparison.json``, ``.csv`` and ``report.html``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from iquitos_rl.evaluation.compare import (
    MINIMUM_SATISFACTION,
    SAME,
    compare,
    read_object,
    read_results,
    write_comparison,
)
from iquitos_rl.evaluation.ladder import FRONTIER_FILE
from iquitos_rl.evaluation.report import ReportData, write_report

__all__ = ["Published", "publish"]


@dataclass(frozen=True)
class Published:
    """A comparison that has been written down.

    Attributes:
        rows: as `iquitos_rl.evaluation.compare.compare` gives them.
        demonstration: whether one of the results is of a demonstration.
        report: the HTML file.
    """

    rows: list[dict[str, Any]]
    demonstration: bool
    report: Path


def publish(folders: Sequence[Path], out: Path | None = None, *, lang: str = "en") -> Published:
    """Compare the results in some folders, and write the comparison and its report.

    Args:
        folders: of results; seeds of one agent may lie in several.
        out: where to write; the first of the folders if None.
        lang: of the report, ``en`` or ``es``.

    Raises:
        ComparisonError: nothing to compare, or results that cannot be compared.
        ValueError: another language.
    """
    results = read_results(*folders)
    gate = next((r["minimum_satisfaction"] for r in results if "minimum_satisfaction" in r), None)
    rows = compare(results, MINIMUM_SATISFACTION if gate is None else gate)
    demonstration = any(result.get("demonstration") for result in results)
    out = folders[0] if out is None else out
    title = ", ".join(dict.fromkeys(folder.resolve().name for folder in folders))
    data = _report_data(rows, title, folders, demonstration=demonstration)
    report = write_report(data, out, lang)
    write_comparison(rows, out)
    return Published(rows, demonstration, report)


def _report_data(
    rows: list[dict[str, Any]], title: str, folders: Sequence[Path], *, demonstration: bool
) -> ReportData:
    first = rows[0]
    return ReportData(
        title=title,
        site=first["site"],
        split=first["split"],
        year=first["year"],
        window=first["window"],
        engine=", ".join(dict.fromkeys(row["engine"] for row in rows)),
        dataset_fingerprint=first["dataset_fingerprint"],
        versions=first.get("versions") or {},
        generated=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        demonstration=demonstration,
        minimum_satisfaction=first["minimum_satisfaction"],
        rows=rows,
        hours=_tables(rows, "timeseries"),
        departures=_tables(rows, "departures"),
        learning=_tables(rows, "learning"),
        frontier=_frontier(first, folders),
        bess_capacity_kwh=(first.get("plant") or {}).get("bess_capacity_kwh"),
    )


def _tables(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, pd.DataFrame]:
    """The tables beside the results, of those that have one; several seeds: that of the median."""
    tables: dict[str, pd.DataFrame] = {}
    for row in rows:
        path = Path(row["folder"]) / f"{kind}_{row['result_name']}.parquet"
        if path.is_file():
            tables.setdefault(str(row["controller"]), pd.read_parquet(path))
    return tables


def _frontier(row: Mapping[str, Any], folders: Sequence[Path]) -> pd.DataFrame | None:
    """The frontier that lies in one of the folders, if it is of the same hours and data."""
    for folder in folders:
        path = folder / FRONTIER_FILE
        if not path.is_file():
            continue
        value = read_object(path, {"ev_satisfaction": list, "grid_import_kwh": list})
        if all(value.get(key) == row.get(key) for key in SAME):
            return pd.DataFrame({key: value[key] for key in ("ev_satisfaction", "grid_import_kwh")})
    return None
