"""How results look on the console: at most 78 columns, satisfaction before anything it could hide behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.table import Table

from iquitos_rl.config.run import STEPS_PER_YEAR
from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.tables import plain_table

__all__ = ["comparison_table", "kpi_table"]

NAME_WIDTH = 18


def _percent(share: float | None, digits: int = 0, *, sign: bool = False) -> str:
    return "-" if share is None else f"{100 * share:{'+' if sign else ''}.{digits}f}"


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
    """The ladder as a table of at most 78 columns; energies in MWh, CO2 in tonnes.

    The service gate stands before all that could be had by starving vehicles. Beneath an agent is what the
    report expects of it. The title names the engine; where results are of different engines, each row names
    its own.
    """
    engines = _engines(rows)
    table = plain_table(f"{_period(rows[0])}, engine {', '.join(engines)}")
    table.caption = "\n".join(_notes(rows, demonstration=demonstration))
    table.add_column("controller", no_wrap=True)
    trained = any(row["training_seconds"] is not None for row in rows)
    for heading in (
        "satis-\nfaction\n%",
        "\nimport\nMWh",
        "import\nchange\n%",
        "\nCO2\n%",
        "solar\nused\n%",
        "net\nCO2\nt",
        "\n\nscore",
        "of the\nbest\n%",
        *(["train-\ning\nh:mm:ss"] if trained else []),
    ):
        table.add_column(heading, justify="right", no_wrap=True, vertical="top")
    for row in rows:
        name = _broken(str(row["controller"]))
        is_baseline = row["controller"] == BASELINE
        spread = f"\n±{_reach(row):.3f}" if "score" in row["intervals"] else ""
        table.add_row(
            name if len(engines) == 1 else f"{name}\n({row['engine']})",
            _percent(row["ev_satisfaction"], 1) + ("*" if row["meets_service"] is False else " "),
            _four_digits(row["grid_import_kwh"] / 1000),
            "" if is_baseline else _percent(row["import_change_share"], sign=True),
            "" if is_baseline else _percent(row["co2_change_share"], sign=True),
            _percent(row["solar_utilisation"], 1),
            _four_digits(row["co2_net_kg"] / 1000, "+"),
            f"{row['score']:.3f}{spread}",
            "" if is_baseline else _captured(row["captured_share"]),
            *([] if not trained else [_clock(row["training_seconds"])]),
        )
        if row["expected"]:
            expected = row["expected"]
            table.add_row(
                "  expected",
                _percent(expected["ev_satisfaction"], 1) + " ",
                "",
                _percent(expected["import_change_share"], sign=True),
                "",
                _percent(expected["solar_utilisation"], 1),
                f"{expected['co2_net_kg'] / 1000:+.1f}",
                style="dim",
            )
    return table


def _broken(name: str) -> str:
    """A name on several lines: a rule at its plus sign, other long ones at an underscore."""
    if len(name) <= NAME_WIDTH:
        return name
    if "+" in name:
        return name.replace("+", "\n+")
    at = name.rfind("_", 0, NAME_WIDTH)
    return name if at < 0 else f"{name[: at + 1]}\n{_broken(name[at + 1 :])}"


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _captured(share: float | None) -> str:
    return _percent(share, 1 if share is not None and abs(share) < 10 else 0)


def _four_digits(value: float, sign: str = "") -> str:
    return f"{value:{sign}.0f}" if abs(value) >= 1000 else f"{value:{sign}.1f}"


def _reach(row: Mapping[str, Any]) -> float:
    low, high = row["intervals"]["score"]
    return float(high - low) / 2


def _notes(rows: Sequence[Mapping[str, Any]], *, demonstration: bool) -> list[str]:
    notes = []
    if any(row["meets_service"] is False for row in rows):
        notes.append(
            f"* below the service gate of {100 * rows[0]['minimum_satisfaction']:g} %: "
            "what it saves, its vehicles lack."
        )
    if rows[0]["split"] != "test":
        notes.append(f"A {rows[0]['split']} year: agents have seen it, or were chosen on it. Not a result.")
    if any(row["kind"] == "agent" and row["seeds"] == 1 for row in rows):
        notes.append("Agents of one seed have no interval: another seed gives another agent.")
    for row in rows:
        if row["seeds"] > 1:
            spread = "± is the 95 % interval" if row["intervals"] else "no interval of so few"
            notes.append(f"{row['controller']}: mean of {row['seeds']} seeds, {spread}.")
    if demonstration:
        notes.append("A demonstration: budgets this small teach nothing. Not a result.")
    return notes


def _amount(value: float) -> str:
    return f"{round(value, 1) + 0.0:,.1f}".removesuffix(".0")  # + 0.0: never "-0"


def _value(name: str, value: float) -> str:
    if name == "energy_balance_error":
        return f"{value:.1e}"
    is_share = name.startswith(("ev_satisfaction", "self_", "score")) or name.endswith(
        ("_share", "utilisation")
    )
    return f"{value:.4f}" if is_share else _amount(value)


def kpi_table(kpis: Mapping[str, Any]) -> Table:
    """The KPIs of one result as a table."""
    table = plain_table(f"{kpis['controller']}: {_period(kpis)}, engine {kpis['engine']}")
    table.add_column("KPI")
    table.add_column("value", justify="right")
    for name, value in kpis.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or name in ("year", "definitions"):
            continue
        table.add_row(name, _value(name, value))
    for name, value in kpis["score_components"].items():
        table.add_row(f"score: {name} (weight {kpis['weights'][f'{name}_weight']:g})", f"{value:.4f}")
    return table
