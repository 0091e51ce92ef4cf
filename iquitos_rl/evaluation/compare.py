"""Results side by side, against no control. Import is never shown without satisfaction."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from iquitos_rl.config.run import STEPS_PER_YEAR
from iquitos_rl.files import replace_file, write_json
from iquitos_rl.tables import plain_table

__all__ = [
    "ComparisonError",
    "compare",
    "comparison_table",
    "kpi_table",
    "read_results",
    "write_comparison",
]

BASELINE = "no_control"
SAME = ("site", "dataset_fingerprint", "split", "year", "window", "weights")
"""What results must have in common to be compared."""


class ComparisonError(ValueError):
    """Results that cannot be compared; the text says why in one line."""


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results in an output folder, no control first; those of ``summary.json`` if there is one.

    Raises:
        ComparisonError: there are none, or one is damaged.
    """
    summary = folder / "summary.json"
    names = _read(summary, "results")["results"] if summary.is_file() else []
    paths = [folder / name for name in names] or sorted(folder.glob("result_*.json"))
    if not paths:
        raise ComparisonError(f"{folder}: no results in this folder; evaluate the experiment first")
    results = [_read(path, "controller", "score", "grid_import_kwh") for path in paths]
    return sorted(results, key=lambda result: result["controller"] != BASELINE)


def _read(path: Path, *keys: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict) or not value.keys() >= set(keys):
        raise ComparisonError(f"{path}: not a file of ours, or damaged: expected {', '.join(keys)} in it")
    return value


def compare(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each result with its difference to no control.

    Returns:
        One mapping per result: its KPIs, and ``import_change_share``, ``cost_change_share``,
        ``co2_change_share`` (grid CO2) relative to no control; in the order given.

    Raises:
        ComparisonError: no control is missing, or the results are not of the same hours, data or weights.
    """
    baseline = next((r for r in results if r["controller"] == BASELINE), None)
    if baseline is None:
        raise ComparisonError(f"nothing to compare with: there is no result of {BASELINE}")
    for result in results:
        for key in SAME:
            if result.get(key) != baseline.get(key):
                raise ComparisonError(
                    f"{result['controller']} and {BASELINE} differ in {key}: "
                    f"{result.get(key)} and {baseline.get(key)}"
                )
    return [
        dict(result)
        | {
            "import_change_share": _change(result, baseline, "grid_import_kwh"),
            "co2_change_share": _change(result, baseline, "co2_grid_kg"),
            "cost_change_share": _change(result, baseline, "cost_usd"),
        }
        for result in results
    ]


def _change(result: Mapping[str, Any], baseline: Mapping[str, Any], key: str) -> float | None:
    return result[key] / baseline[key] - 1.0 if baseline[key] else None


def write_comparison(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write ``comparison.json`` and ``comparison.csv`` (nested values only in the JSON)."""
    write_json(folder / "comparison.json", list(rows))
    flat = [{k: v for k, v in row.items() if not isinstance(v, dict | list)} for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(flat)
    replace_file(
        folder / "comparison.csv", lambda path: path.write_text(text.getvalue(), "utf-8", newline="")
    )


def _share(value: float | None, digits: int = 1, sign: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if sign else ''}.{digits}f} %"


def _period(result: Mapping[str, Any]) -> str:
    window = result["window"]
    days = window["steps"] / 24
    length = (
        "full year"
        if window["steps"] == STEPS_PER_YEAR
        else f"{days:.3g} days from day {window['start_step'] // 24}"
    )
    year = f"{result['split']} year {result['year']}"
    return f"{result['site']}, {year}, {length}"


def _engines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row["engine"]) for row in rows))


def comparison_table(rows: Sequence[Mapping[str, Any]], *, demonstration: bool = False) -> Table:
    """The comparison as a table of at most 78 columns; energies in MWh, CO2 in tonnes.

    The title names the engine; where results are of different engines, each row names its own.
    """
    engines = _engines(rows)
    table = plain_table(f"{_period(rows[0])}, engine {', '.join(engines)}")
    if demonstration:
        table.caption = "A demonstration: budgets this small teach nothing. Not a result."
    table.add_column("controller", no_wrap=True)
    for heading in (
        "import\nMWh",
        "vs no\ncontrol",
        "satis-\nfaction",
        "solar\nused",
        "net CO2\nt",
        "cost\nUSD",
        "daily\npeak kW",
        "score",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["controller"] if len(engines) == 1 else f"{row['controller']} ({row['engine']})",
            f"{row['grid_import_kwh'] / 1000:.1f}",
            "" if row["controller"] == BASELINE else _share(row["import_change_share"], sign=True),
            _share(row["ev_satisfaction"]),
            _share(row["solar_utilisation"]),
            f"{row['co2_net_kg'] / 1000:+.1f}",
            f"{row['cost_usd']:,.0f}",
            f"{row['mean_daily_peak_kw']:.0f}",
            f"{row['score']:.3f}",
        )
    return table


def _amount(value: float) -> str:
    return f"{round(value, 1) + 0.0:,.1f}".removesuffix(".0")  # + 0.0: never "-0"


def kpi_table(kpis: Mapping[str, Any]) -> Table:
    """The KPIs of one result as a table."""
    table = plain_table(f"{kpis['controller']}: {_period(kpis)}, engine {kpis['engine']}")
    table.add_column("KPI")
    table.add_column("value", justify="right")
    for name, value in kpis.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or name == "year":
            continue
        shares = ("solar_utilisation", "ev_satisfaction", "score")
        table.add_row(name, f"{value:.4f}" if name in shares else _amount(value))
    for name, value in kpis["score_components"].items():
        table.add_row(f"score: {name} (weight {kpis['weights'][f'{name}_weight']:g})", f"{value:.4f}")
    return table
