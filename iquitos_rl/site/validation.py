"""Checks of a dataset on disk: each names file, column and row, and nothing in a file makes them crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iquitos_rl.site.charger_checks import charger_problems, shared_vehicle_problems
from iquitos_rl.site.dataset import DESCRIPTION_FILE, Dataset, fingerprint_of, load_dataset
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.no_control import NO_CONTROL_COLUMNS, no_control_year
from iquitos_rl.site.schema import make_schema, read_sockets, table_files, year_from_tables
from iquitos_rl.site.storage import file_sha256, read_json, read_table
from iquitos_rl.site.sun import sun_elevation_deg
from iquitos_rl.site.table_schemas import ColumnProblem, column_problems
from iquitos_rl.site.tables import HORIZONS, later
from iquitos_rl.site.timeline import HOUR_OF_ROW, HOURS_PER_YEAR, MONTH_OF_ROW, WEEKDAY_OF_ROW, Split

__all__ = ["Finding", "ValidationReport", "validate_dataset"]

Severity = Literal["error", "warning"]

_NIGHT_ELEVATION_DEG = -8.0
"""The sun climbs 15 degrees an hour: this low in the middle of an hour, it was not up at all in that hour."""
_TOLERANCE = 1e-4
"""By how much a stored no-control value may differ from the recomputed one, in its unit and relatively."""
_KINDS = {
    "energy_simulation": "building",
    "weather": "weather",
    "pricing": "pricing",
    "carbon_intensity": "carbon_intensity",
}
"""Kind of each table of a schema; every other one is a charger's."""
_MOST_DIFFERENCES = 10


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a dataset.

    Attributes:
        severity: ``error`` or ``warning``.
        file: path within the dataset's folder.
        column: column or key concerned, None for the file as a whole.
        row: first row concerned, counted from 0 without the header; None if no row is meant.
        message: what is wrong, in one line.
    """

    severity: Severity
    file: str
    column: str | None
    row: int | None
    message: str

    def __str__(self) -> str:
        place = self.file
        if self.column is not None:
            place += f", {self.column}"
        if self.row is not None:
            place += f", row {self.row}"
        return f"{self.severity}: {place}: {self.message}"


@dataclass(frozen=True)
class ValidationReport:
    """What the checks found.

    Attributes:
        path: the dataset's folder.
        findings: errors and warnings in the order of the files.
        tables: number of tables that were read.
    """

    path: Path
    findings: tuple[Finding, ...]
    tables: int

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that make the dataset unfit for use."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings worth a look."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    @property
    def exit_code(self) -> int:
        """0 if nothing was found, 1 with warnings only, 2 with errors."""
        return 2 if self.errors else int(bool(self.warnings))


def validate_dataset(
    path: Path | str, progress: Callable[[str, int, int], None] | None = None
) -> ValidationReport:
    """Check everything about a dataset that can be checked without running it.

    Its description and hashes; columns, kinds and ranges of every table (pandera); that sessions are
    complete and do not overlap, that the sun is down at night, that predictions are what comes later, that
    the schema is the site's, and that the stored no-control year follows from the tables.

    Args:
        path: the dataset's folder.
        progress: called with what is being checked, how many years are done and how many there are.
    """
    return _Validation(Path(path)).run(progress)


class _Validation:
    """The findings so far, and the checks that add to them."""

    def __init__(self, path: Path) -> None:
        self._path = path.parent if path.name == DESCRIPTION_FILE else path
        self._findings: list[Finding] = []
        self._tables = 0

    def run(self, progress: Callable[[str, int, int], None] | None) -> ValidationReport:
        try:
            dataset = load_dataset(self._path)
        except DatasetError as error:
            self._add(DESCRIPTION_FILE, None, None, str(error))
            return self._report()
        self._check_hashes(dataset)
        years = dataset.all_years()
        for done, (split, year) in enumerate(years):
            if progress:
                progress(f"{split} year {year}", done, len(years))
            self._check_year(dataset, split, year)
        if progress:
            progress("done", len(years), len(years))
        return self._report()

    def _report(self) -> ValidationReport:
        return ValidationReport(self._path, tuple(self._findings), self._tables)

    def _add(
        self, file: str, column: str | None, row: int | None, message: str, severity: Severity = "error"
    ) -> None:
        self._findings.append(Finding(severity, file, column, row, message.replace("\n", " ")))

    def _add_rows(
        self,
        file: str,
        column: str | None,
        rows: NDArray[np.int64] | list[int],
        message: str,
        severity: Severity = "error",
    ) -> None:
        """One finding for all rows with the same fault; nothing if there are none."""
        if len(rows) > 1:
            message += f" (and {len(rows) - 1} more rows)"
        if len(rows):
            self._add(file, column, int(rows[0]), message, severity)

    def _add_problem(self, file: str, problem: ColumnProblem) -> None:
        column, rows, message = problem
        if rows:
            self._add_rows(file, column, rows, message)
        else:
            self._add(file, column, None, message)

    # Files

    def _check_hashes(self, dataset: Dataset) -> None:
        for name, digest in sorted(dataset.files.items()):
            file = self._path / name
            try:
                if file_sha256(file) != digest:
                    self._add(name, None, None, "the file is not the one that was built (its hash differs)")
            except FileNotFoundError:
                self._add(name, None, None, "the file is missing")
            except OSError as error:
                self._add(name, None, None, f"cannot be read ({error.strerror})")
        if fingerprint_of(dataset.files) != dataset.fingerprint:
            self._add(DESCRIPTION_FILE, "fingerprint", None, "does not follow from the hashes of the files")
        known = {*dataset.files, DESCRIPTION_FILE}
        for file in sorted(self._path.rglob("*")):
            name = file.relative_to(self._path).as_posix()
            if file.is_file() and name not in known:
                self._add(name, None, None, "the file is not part of the dataset", "warning")

    # Years

    def _check_year(self, dataset: Dataset, split: Split, year: int) -> None:
        folder = dataset.year_path(split, year)
        prefix = folder.relative_to(dataset.path).as_posix() + "/"
        try:
            schema = read_json(folder / "schema.json")
            files = table_files(schema)
        except DatasetError as error:
            self._add(prefix + "schema.json", None, None, str(error))
            return
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            self._add(prefix + "schema.json", None, None, f"not a schema of ours ({reason})")
            return
        tables: dict[str, pd.DataFrame] = {}
        for kind in ("building", "weather", "pricing", "carbon_intensity", "charger"):
            chosen = [name for name in files if _KINDS.get(name, "charger") == kind]
            tables |= self._read_tables({name: prefix + files[name] for name in chosen}, kind)
        self._check_columns(dataset, prefix, files, tables)
        sound = len(tables) == len(files)
        if sound:
            self._check_schema(dataset, prefix, schema, tables, split, year)
            self._check_no_control(dataset, prefix, schema, tables, split, year)

    def _read_tables(self, files: dict[str, str], kind: str) -> dict[str, pd.DataFrame]:
        """The tables of one kind that are fit for further checks; the faults of the others are noted."""
        tables = {}
        for name, file in files.items():
            try:
                tables[name] = read_table(self._path / file)
            except DatasetError as error:
                self._add(file, None, None, str(error))
        self._tables += len(tables)
        unfit = set()
        for name, problem in column_problems(kind, tables):
            self._add_problem(files[name], problem)
            unfit.add(name)
        for name, table in tables.items():
            if len(table) != HOURS_PER_YEAR:
                self._add(files[name], None, None, f"has {len(table)} rows; a year has {HOURS_PER_YEAR}")
                unfit.add(name)
        return {name: table for name, table in tables.items() if name not in unfit}

    def _check_columns(
        self, dataset: Dataset, prefix: str, files: dict[str, str], tables: dict[str, pd.DataFrame]
    ) -> None:
        """Checks that need one table at a time, and the one that compares the sockets."""
        for name, table in tables.items():
            file = prefix + files[name]
            if name == "energy_simulation":
                self._check_building(dataset, file, table)
            elif name in ("weather", "pricing"):
                self._check_predictions(file, table)
            elif name not in _KINDS:
                for problem in charger_problems(table):
                    self._add_problem(file, problem)
        chargers = {prefix + files[name]: table for name, table in tables.items() if name not in _KINDS}
        for file, problem in shared_vehicle_problems(chargers):
            self._add_problem(file, problem)

    def _check_building(self, dataset: Dataset, file: str, table: pd.DataFrame) -> None:
        site = dataset.site
        calendar: list[tuple[str, NDArray[np.int64], Severity]] = [
            ("hour", HOUR_OF_ROW + 1, "error"),  # a day's peak is taken over rows 24 d to 24 d + 23
            ("day_type", WEEKDAY_OF_ROW + 1, "warning"),
            ("month", MONTH_OF_ROW, "warning"),
        ]
        for column, expected, severity in calendar:
            rows = np.flatnonzero(table[column].to_numpy() != expected)
            message = "does not follow the calendar (day 0 is Monday 1 January)"
            self._add_rows(file, column, rows, message, severity)
        load = table["non_shiftable_load"].to_numpy(dtype=np.float64)
        if site.load.annual_kwh > 0:
            rows = np.flatnonzero(load == 0)
            self._add_rows(file, "non_shiftable_load", rows, "the site uses no energy at all", "warning")
        pv = table["solar_generation"].to_numpy(dtype=np.float64)
        night = sun_elevation_deg(site.location) < _NIGHT_ELEVATION_DEG
        self._add_rows(file, "solar_generation", np.flatnonzero(night & (pv > 0)), "the sun is down")
        if site.pv:
            limit = 1000.0 * site.pv.inverter_power_kw / site.pv.nominal_power_kwp
            rows = np.flatnonzero(pv > limit + 1e-3)
            message = f"more than the inverter lets through ({limit:g} W/kW)"
            self._add_rows(file, "solar_generation", rows, message)

    def _check_predictions(self, file: str, table: pd.DataFrame) -> None:
        for column in (str(name) for name in table.columns if "_predicted_" not in str(name)):
            values = table[column].to_numpy(dtype=np.float64)
            for hours in HORIZONS:
                name = f"{column}_predicted_{hours}"
                rows = np.flatnonzero(table[name].to_numpy(dtype=np.float64) != later(values, hours))
                self._add_rows(file, name, rows, f"is not {column} {hours} h later")

    def _check_schema(
        self,
        dataset: Dataset,
        prefix: str,
        schema: dict[str, Any],
        tables: dict[str, pd.DataFrame],
        split: Split,
        year: int,
    ) -> None:
        """Compare the schema with the one that the site gives, and the sockets with their classes."""
        file = prefix + "schema.json"
        site = dataset.site
        try:
            sockets = read_sockets(schema, tables)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            self._add(file, None, None, f"not a schema of ours ({type(error).__name__}: {error})")
            return
        if len(sockets) != site.socket_count:
            self._add(file, "chargers", None, f"has {len(sockets)} sockets, the site has {site.socket_count}")
        classes = [kind for kind in site.sockets for _ in range(kind.count)]
        for socket, kind in zip(sockets, classes, strict=False):
            low, high = kind.battery_capacity_kwh
            faults = {
                "max_charging_power": (socket.power_kw == kind.power_kw, socket.power_kw),
                "max_discharging_power": (
                    socket.discharge_power_kw == kind.discharge_power_kw,
                    socket.discharge_power_kw,
                ),
                "efficiency": (socket.efficiency == kind.charger_efficiency, socket.efficiency),
                "capacity": (
                    low - _TOLERANCE <= socket.battery_capacity_kwh <= high + _TOLERANCE,
                    socket.battery_capacity_kwh,
                ),
            }
            for key, (fits, value) in faults.items():
                if not fits:
                    self._add(file, f"{socket.name}.{key}", None, f"{value:g} does not fit class {kind.name}")
        expected = make_schema(site, sockets, dataset.table_format, dataset.seed, split, year)
        differences = _differences(expected, schema)
        for key, message in differences[:_MOST_DIFFERENCES]:
            self._add(file, key, None, message)
        if len(differences) > _MOST_DIFFERENCES:
            self._add(file, None, None, f"differs from the site's in {len(differences)} places")

    def _check_no_control(
        self,
        dataset: Dataset,
        prefix: str,
        schema: dict[str, Any],
        tables: dict[str, pd.DataFrame],
        split: Split,
        year: int,
    ) -> None:
        """Compare the stored no-control year with the one that the tables give."""
        name = f"no_control.{dataset.table_format}"
        stored = self._read_tables({name: prefix + name}, "no_control").get(name)
        try:
            expected = no_control_year(year_from_tables(schema, tables), dataset.site)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, ZeroDivisionError) as error:
            self._add(prefix + "schema.json", None, None, f"no control cannot be computed ({error})")
            return
        if stored is not None:
            for column in NO_CONTROL_COLUMNS:
                values = expected.hourly[column].to_numpy(dtype=np.float64)
                close = np.isclose(stored[column].to_numpy(float), values, rtol=_TOLERANCE, atol=_TOLERANCE)
                message = "does not follow from the tables of the year"
                self._add_rows(prefix + name, column, np.flatnonzero(~close), message)
        file = prefix + "no_control.json"
        try:
            totals = dataset.no_control_totals(split, year)
        except DatasetError as error:
            self._add(file, None, None, str(error))
            return
        for key, message in _differences(expected.totals(), totals, _TOLERANCE)[:_MOST_DIFFERENCES]:
            self._add(file, key, None, message)


def _differences(expected: Any, found: Any, tolerance: float = 1e-12, key: str = "") -> list[tuple[str, str]]:
    """Keys of nested mappings with values other than expected, and what is wrong; more keys are allowed."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            difference
            for name, value in expected.items()
            for difference in (
                _differences(value, found[name], tolerance, f"{key}.{name}" if key else str(name))
                if name in found
                else [(f"{key}.{name}" if key else str(name), "is missing")]
            )
        ]
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (expected, found)]
    if all(numbers):
        equal = bool(np.isclose(found, expected, rtol=tolerance, atol=tolerance))
    else:
        equal = bool(found == expected)
    return [] if equal else [(key, f"is {found!r}, expected is {expected!r}")]
