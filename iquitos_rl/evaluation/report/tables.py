"""The tables of a report: every cell is text already, with its unit in the heading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iquitos_rl.evaluation.compare import BASELINE
from iquitos_rl.evaluation.report.data import ReportData, Row
from iquitos_rl.evaluation.report.texts import NOTHING, PER_CENT, Texts

__all__ = [
    "DETAILS",
    "Cell",
    "Table",
    "class_table",
    "detail_table",
    "expected_table",
    "ladder_table",
    "shown_details",
]

KG_PER_TONNE = KWH_PER_MWH = 1000.0
Format = Callable[[float | None], str]


@dataclass(frozen=True)
class Cell:
    """A value, smaller notes under it, and a class of the style sheet."""

    text: str
    notes: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Headings, and rows of as many cells; the first of each row names it."""

    headings: list[str]
    rows: list[list[Cell]]


def _interval(row: Row, key: str, form: Format, texts: Texts) -> str:
    interval = (row.get("intervals") or {}).get(key)
    if not interval:
        return ""
    low, high = form(interval[0]), form(interval[1])
    return "" if low == high else texts("interval", low=low.removesuffix(PER_CENT), high=high)


def _notes(*notes: str) -> tuple[str, ...]:
    return tuple(note for note in notes if note)


def _name(row: Row, texts: Texts) -> Cell:
    seeds = row.get("seeds") or 1
    note = texts(f"kind.{row['kind']}")
    return Cell(
        texts.controller(row["controller"]),
        _notes(note, texts("seeds", count=seeds) if seeds > 1 else ""),
        "base" if row["controller"] == BASELINE else "",
    )


def ladder_table(data: ReportData, texts: Texts) -> Table:
    """Service first, then what it took: a row without the service has its CO2 muted."""

    def mwh(value: float | None) -> str:
        return texts.number(None if value is None else value / KWH_PER_MWH, 1)

    def tonnes(value: float | None) -> str:
        return texts.number(None if value is None else value / KG_PER_TONNE, 1, sign=True)

    def change(row: Row, key: str) -> str:
        return "" if row["controller"] == BASELINE else texts.percent(row[key], 1, sign=True)

    def percent(value: float | None) -> str:
        return texts.percent(value, 1)

    def score(value: float | None) -> str:
        return texts.number(value, 3)

    rows = []
    for row in data.rows:
        gate = "served" if row["meets_service"] else "unserved"
        muted = "" if row["meets_service"] else "muted"
        captured = row.get("captured_share")
        rows.append(
            [
                _name(row, texts),
                Cell(
                    percent(row["ev_satisfaction"]),
                    _notes(
                        texts(f"gate.{gate}", gate=texts.percent(data.minimum_satisfaction)),
                        _interval(row, "ev_satisfaction", percent, texts),
                    ),
                    gate,
                ),
                Cell(
                    mwh(row["grid_import_kwh"]),
                    _notes(change(row, "import_change_share"), _interval(row, "grid_import_kwh", mwh, texts)),
                ),
                Cell(
                    percent(row["solar_utilisation"]),
                    _notes(_interval(row, "solar_utilisation", percent, texts)),
                ),
                Cell(
                    tonnes(row["co2_net_kg"]),
                    _notes(
                        texts("ladder.co2_grid", change=change(row, "co2_change_share"))
                        if row["controller"] != BASELINE
                        else "",
                        _interval(row, "co2_net_kg", tonnes, texts),
                    ),
                    muted,
                ),
                Cell(
                    texts.number(row["cost_usd"]),
                    _notes(change(row, "cost_change_share"), _interval(row, "cost_usd", texts.number, texts)),
                ),
                Cell(
                    texts.number(row["mean_daily_peak_kw"]),
                    _notes(_interval(row, "mean_daily_peak_kw", texts.number, texts)),
                ),
                Cell(
                    score(row["score"]),
                    _notes(
                        texts("ladder.captured", share=texts.percent(captured))
                        if captured is not None and row["meets_service"]
                        else "",
                        _interval(row, "score", score, texts),
                    ),
                ),
            ]
        )
    keys = ("controller", "satisfaction", "import", "solar", "co2_net", "cost", "peak", "score")
    return Table([texts(f"column.{key}") for key in keys], rows)


DETAILS: Mapping[str, tuple[str, int, float]] = {
    # KPI: (how it is shown, digits, divisor)
    "full_charge_share": ("percent", 1, 1),
    "ev_satisfaction_worst_decile": ("percent", 1, 1),
    "unserved_energy_kwh": ("number", 1, KWH_PER_MWH),
    "self_sufficiency": ("percent", 1, 1),
    "storage_losses_kwh": ("number", 1, KWH_PER_MWH),
    "bess_cycles": ("number", 0, 1),
    "bess_throughput_kwh": ("number", 1, KWH_PER_MWH),
    "peak_import_kw": ("number", 0, 1),
    "ramping_kw": ("number", 0, 1),
    "feeder_utilisation": ("percent", 1, 1),
    "feeder_full_hours": ("number", 0, 1),
    "training_seconds": ("duration", 0, 1),
}
"""Further figures, in their order; one that no row has is left out of the table."""


def shown_details(data: ReportData) -> list[str]:
    """The keys of `DETAILS` that some controller has a value of."""
    return [key for key in DETAILS if any(row.get(key) is not None for row in data.rows)]


def detail_table(data: ReportData, texts: Texts) -> Table | None:
    """Further figures of each controller; None if there are none."""
    keys = shown_details(data)
    if not keys:
        return None

    def cell(row: Row, key: str) -> Cell:
        form, digits, divisor = DETAILS[key]
        value = row.get(key)
        if value is None:
            return Cell(NOTHING)
        if form == "duration":
            return Cell(texts.duration(value))
        return Cell(
            texts.percent(value, digits) if form == "percent" else texts.number(value / divisor, digits)
        )

    rows = [[_name(row, texts), *(cell(row, key) for key in keys)] for row in data.rows]
    return Table([texts("column.controller"), *(texts(f"detail.{key}") for key in keys)], rows)


EXPECTED: Mapping[str, tuple[str, float, bool]] = {
    # KPI: (column, divisor, whether more is better); satisfaction stands first
    "ev_satisfaction": ("satisfaction", 1, True),
    "import_change_share": ("import_change", 1, False),
    "solar_utilisation": ("solar", 1, True),
    "co2_net_kg": ("co2_net", KG_PER_TONNE, False),
}


def expected_table(data: ReportData, texts: Texts) -> Table | None:
    """Agents against what was expected of them; None if nothing was.

    Import and CO2 count as reached only where the service gate is met: both are easy to lower by leaving
    vehicles empty.
    """
    expected = [row for row in data.rows if row.get("expected")]
    if not expected:
        return None

    def shown(key: str, value: float | None) -> str:
        if key == "co2_net_kg":
            return texts.number(None if value is None else value / KG_PER_TONNE, 1, sign=True)
        return texts.percent(value, 1, sign=key == "import_change_share")

    def cell(row: Row, key: str) -> Cell:
        _, _, more = EXPECTED[key]
        target, value = row["expected"].get(key), row.get(key)
        if target is None or value is None:
            return Cell(shown(key, value))
        bound = texts("expected.least" if more else "expected.most", value=shown(key, target))
        reached = value >= target if more else value <= target
        if reached and not more and not row["meets_service"]:
            return Cell(shown(key, value), (bound, texts("no_service")), "muted")
        mark = texts("expected.reached" if reached else "expected.missed")
        return Cell(shown(key, value), (f"{bound} {mark}",), "served" if reached else "unserved")

    rows = [[_name(row, texts), *(cell(row, key) for key in EXPECTED)] for row in expected]
    headings = [texts(f"column.{column}") for column, _, _ in EXPECTED.values()]
    return Table([texts("column.controller"), *headings], rows)


def class_table(data: ReportData, texts: Texts) -> Table | None:
    """Satisfaction by vehicle class; None where no controller has it."""
    shares: dict[str, Mapping[str, float]] = {}
    for row in data.rows:
        name = row["controller"]
        if row.get("ev_satisfaction_by_class"):
            shares[name] = row["ev_satisfaction_by_class"]
        elif name in data.departures:
            frame = data.departures[name]
            means = frame["satisfaction"].groupby(frame["vehicle_class"].astype(str)).mean()
            shares[name] = {str(k): float(v) for k, v in means.items()}
    classes = list(dict.fromkeys(c for by_class in shares.values() for c in by_class))
    if not classes:
        return None

    def cell(share: float | None) -> Cell:
        if share is None:
            return Cell(NOTHING)
        kind = "served" if share >= data.minimum_satisfaction else "unserved"
        return Cell(texts.percent(share, 1), kind=kind)

    rows = [
        [_name(row, texts), *(cell(shares[row["controller"]].get(c)) for c in classes)]
        for row in data.rows
        if row["controller"] in shares
    ]
    return Table([texts("column.controller"), *classes], rows)
