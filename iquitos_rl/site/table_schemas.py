"""Pandera schemas of every table of a dataset: columns, kinds of values and ranges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
from pandera.errors import SchemaErrors

from iquitos_rl.site.no_control import NO_CONTROL_COLUMNS
from iquitos_rl.site.tables import AWAY, CONNECTED, HORIZONS, WEATHER_SERIES

__all__ = ["TABLE_SCHEMAS", "ColumnProblem", "column_problems"]

ColumnProblem = tuple[str | None, list[int], str]
"""Column (None for the table), the rows concerned (empty for the whole column), and what is wrong."""


def _number(low: float, high: float, *, nullable: bool = False) -> pandera.Column:
    allowed = f"allowed are {low:g} to {high:g}" if high < 1e9 else f"allowed are {low:g} and more"
    return pandera.Column(
        float, pandera.Check.in_range(low, high, error=allowed), nullable=nullable, coerce=True
    )


def _integer(allowed: Iterable[int]) -> pandera.Column:
    values = sorted(allowed)
    text = ", ".join(map(str, values)) if len(values) < 4 else f"{values[0]} to {values[-1]}"
    # CityLearn takes the text of a state and asks whether it is all digits: 1.0 counts as missing.
    return pandera.Column(
        None,
        [
            pandera.Check(lambda s: pd.api.types.is_integer_dtype(s.dtype), error="must be whole numbers"),
            pandera.Check.isin(values, error=f"allowed are {text}"),
        ],
        nullable=False,
    )


def _text() -> pandera.Column:
    return pandera.Column(None, pandera.Check(_is_text, error="must be text"))


def _is_text(values: pd.Series) -> Any:
    if isinstance(values.dtype, pd.StringDtype):
        return True
    return values.map(lambda value: isinstance(value, str))


def _table(columns: dict[str, pandera.Column], *, strict: bool = True) -> pandera.DataFrameSchema:
    return pandera.DataFrameSchema(columns, strict=strict)


def _with_predictions(columns: dict[str, pandera.Column]) -> dict[str, pandera.Column]:
    predicted = {f"{name}_predicted_{n}": column for name, column in columns.items() for n in HORIZONS}
    return columns | predicted


_UNLIMITED = 1e12
_RANGES = {
    "outdoor_dry_bulb_temperature": (-60.0, 60.0),
    "outdoor_relative_humidity": (0.0, 100.0),
    "diffuse_solar_irradiance": (0.0, 1500.0),
    "direct_solar_irradiance": (0.0, 1500.0),
}
_COUNTS = {"ev_departures", "sessions_in_progress"}

# Strict where CityLearn passes every column to a constructor, which fails on one it does not know.
TABLE_SCHEMAS: dict[str, pandera.DataFrameSchema] = {
    "building": _table(
        {
            "month": _integer(range(1, 13)),
            "hour": _integer(range(1, 25)),
            "day_type": _integer(range(1, 9)),
            "indoor_dry_bulb_temperature": _number(-90, 57),
            "non_shiftable_load": _number(0, _UNLIMITED),
            "dhw_demand": _number(0, 0),
            "cooling_demand": _number(0, 0),
            "heating_demand": _number(0, 0),
            "solar_generation": _number(0, 1500),
        }
    ),
    "weather": _table(_with_predictions({name: _number(*_RANGES[name]) for name in WEATHER_SERIES})),
    "pricing": _table(_with_predictions({"electricity_pricing": _number(0, _UNLIMITED)})),
    "carbon_intensity": _table({"carbon_intensity": _number(0, _UNLIMITED)}),
    "charger": _table(
        {
            "electric_vehicle_charger_state": _integer([CONNECTED, AWAY]),
            "electric_vehicle_id": _text(),
            "electric_vehicle_departure_time": _number(1, _UNLIMITED, nullable=True),
            "electric_vehicle_required_soc_departure": _number(0, 100, nullable=True),
            "electric_vehicle_estimated_arrival_time": _number(-1, _UNLIMITED, nullable=True),
            "electric_vehicle_estimated_soc_arrival": _number(0, 100, nullable=True),
            "electric_vehicle_session_id": _text(),
        },
        strict=False,
    ),
    "no_control": _table(
        {
            name: _integer(range(100_000)) if name in _COUNTS else _number(0, _UNLIMITED)
            for name in NO_CONTROL_COLUMNS
        }
    ),
}
"""Schema of each kind of table."""


def column_problems(kind: str, tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, ColumnProblem]]:
    """What is wrong with the columns of tables of one kind, with the table's key; [] if nothing is.

    Tables with the same columns and types are checked as one long table, because a check costs pandera as
    much time as thousands of rows do.
    """
    alike: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, table in tables.items():
        alike[tuple((str(column), str(dtype)) for column, dtype in table.dtypes.items())].append(name)
    problems = []
    for names in alike.values():
        together = pd.concat([tables[name] for name in names], ignore_index=True)
        try:
            TABLE_SCHEMAS[kind].validate(together, lazy=True)
        except SchemaErrors as errors:
            bounds = np.cumsum([0, *(len(tables[name]) for name in names)])
            problems += _grouped(errors.failure_cases, names, bounds)
    return problems


def _grouped(
    cases: pd.DataFrame, names: list[str], bounds: np.ndarray[Any, Any]
) -> list[tuple[str, ColumnProblem]]:
    """One problem per table, column and check, with all its rows; ``bounds`` are the tables' first rows."""
    problems: list[tuple[str, ColumnProblem]] = []
    for (column, check), group in cases.groupby(["column", "check"], dropna=False, sort=False):
        named = str(column) if isinstance(column, str) else None
        if check in ("column_in_dataframe", "column_in_schema"):
            missing = check == "column_in_dataframe"
            message = "the column is missing" if missing else "CityLearn does not know this column"
            columns = [str(value) for value in group["failure_case"]]
            problems += [(name, (wrong, [], message)) for wrong in columns for name in names]
            continue
        if check == "not_nullable":
            message = "a value is missing"
        elif str(check).startswith(("coerce_dtype", "dtype")):
            message = "must be numbers"
        else:
            message = str(check)
        rows = np.sort(group["index"].dropna().to_numpy(dtype=np.int64))
        if not len(rows):
            problems += [(name, (named, [], message)) for name in names]
        for index, name in enumerate(names):
            first, end = bounds[index], bounds[index + 1]
            mine = [int(row - first) for row in rows[(rows >= first) & (rows < end)]]
            if mine:
                problems.append((name, (named, mine, message)))
    return problems
