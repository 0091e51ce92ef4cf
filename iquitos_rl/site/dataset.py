"""A dataset on disk: its description, where its years are, and whether its files are as they were made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from iquitos_rl.config.site import SiteConfig
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.no_control import NO_CONTROL_COLUMNS, NoControlYear
from iquitos_rl.site.storage import TableFormat, file_sha256, read_json, read_table, to_json
from iquitos_rl.site.timeline import HOURS_PER_YEAR, SPLITS, Split

__all__ = ["DESCRIPTION_FILE", "FORMAT", "FORMAT_VERSION", "Dataset", "fingerprint_of", "load_dataset"]

DESCRIPTION_FILE = "dataset.json"
FORMAT = "iquitos-rl dataset"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk; made by `build_dataset` or opened by `load_dataset`.

    Attributes:
        path: its folder, absolute.
        site: the configuration it was made from.
        seed: the seed it was made with.
        table_format: ``parquet`` or ``csv``.
        fingerprint: SHA-256 over the names and contents of all files but ``dataset.json``: two datasets with
            the same fingerprint are the same data.
        files: SHA-256 of each file by its path within the folder.
    """

    path: Path
    site: SiteConfig
    seed: int
    table_format: TableFormat
    fingerprint: str
    files: Mapping[str, str] = field(repr=False)

    def years(self, split: str) -> int:
        """Number of years of ``split``. Raises DatasetError for an unknown split."""
        self._check_split(split)
        return self.site.years.count(split)

    def year_path(self, split: str, year: int = 0) -> Path:
        """Folder of a year. Raises DatasetError if the dataset has no such year."""
        count = self.years(split)
        if not 0 <= year < count:
            raise DatasetError(
                f"{self.path}: no year {year} in split {split}; it has {count} (0 to {count - 1}); "
                f"raise years.{split} in the site file and build again"
            )
        return self.path / split / f"year_{year}"

    def schema_path(self, split: str, year: int = 0) -> Path:
        """CityLearn schema of a year. Raises DatasetError if the dataset has no such year."""
        return self.year_path(split, year) / "schema.json"

    def no_control(self, split: str, year: int = 0) -> NoControlYear:
        """What no control does in a year, as stored. Raises DatasetError if the file is damaged."""
        file = self.year_path(split, year) / f"no_control.{self.table_format}"
        hourly = read_table(file)
        if tuple(hourly.columns) != NO_CONTROL_COLUMNS or len(hourly) != HOURS_PER_YEAR:
            raise DatasetError(f"{file}: not {HOURS_PER_YEAR} hours of no control; build the dataset again")
        return NoControlYear(hourly, self.site)

    def no_control_totals(self, split: str, year: int = 0) -> dict[str, Any]:
        """The year's KPIs under no control, as stored in ``no_control.json``. Raises DatasetError."""
        return read_json(self.year_path(split, year) / "no_control.json")

    def check_files(self) -> None:
        """Refuse a dataset whose files are missing or differ from what was built. Raises DatasetError."""
        damaged = self.verify()
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            raise DatasetError(
                f"{self.path / damaged[0]}{more}: missing or changed since the dataset was built; see "
                f"iquitos-rl dataset validate {self.path}, or build it again: "
                f"iquitos-rl dataset build --out {self.path} --force"
            )

    def verify(self) -> tuple[str, ...]:
        """Files (paths within the folder) that are missing or differ from what was built; () if all is well.

        ``dataset.json`` itself is named if its list of files does not give its fingerprint.
        """
        wrong = [name for name, digest in self.files.items() if _digest_or_none(self.path / name) != digest]
        if fingerprint_of(self.files) != self.fingerprint:
            wrong.append(DESCRIPTION_FILE)
        return tuple(sorted(wrong))

    def _check_split(self, split: str) -> None:
        if split not in SPLITS:
            raise DatasetError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")

    def all_years(self) -> list[tuple[Split, int]]:
        """Every split and year of the dataset, in order."""
        return [(split, year) for split in SPLITS for year in range(self.years(split))]


def _digest_or_none(file: Path) -> str | None:
    try:
        return file_sha256(file)
    except OSError:
        return None


def fingerprint_of(files: Mapping[str, str]) -> str:
    """Fingerprint of a dataset: SHA-256 over sorted pairs of relative path and file digest."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def load_dataset(path: Path | str) -> Dataset:
    """Open a dataset by its folder (or its ``dataset.json``). Cheap: no table is read.

    Raises:
        DatasetError: there is no dataset, or its description is damaged or of another version.
    """
    folder = Path(path).expanduser().absolute()  # Ray's workers run in other folders
    if folder.name == DESCRIPTION_FILE:
        folder = folder.parent
    rebuild = f"iquitos-rl dataset build --out {folder} (another site or seed: --site YAML --seed N)"
    if not (folder / DESCRIPTION_FILE).is_file():
        raise DatasetError(f"{folder}: no dataset here (no {DESCRIPTION_FILE}); make one with: {rebuild}")
    data = read_json(folder / DESCRIPTION_FILE)
    if data.get("format") != FORMAT:
        raise DatasetError(f"{folder / DESCRIPTION_FILE}: not the description of a dataset of ours")
    if data.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{folder}: format version {data.get('format_version')}, this program reads {FORMAT_VERSION}; "
            f"make it again with: {rebuild} --force"
        )
    try:
        # Through JSON text, because strict models take a JSON list for a tuple but not a Python list.
        site = SiteConfig.model_validate_json(to_json(data["site"]))
        seed, table_format, fingerprint, files = (
            data[key] for key in ("seed", "table_format", "fingerprint", "files")
        )
        if table_format not in ("parquet", "csv"):
            raise ValueError(f"table_format is {table_format!r}")
        if not isinstance(seed, int) or not isinstance(fingerprint, str):
            raise ValueError("seed or fingerprint has a wrong value")
        digests = {str(name): str(digest) for name, digest in files.items()}
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DatasetError(
            f"{folder / DESCRIPTION_FILE}: damaged ({type(error).__name__}: {reason}); "
            f"make it again with: {rebuild} --force"
        ) from None
    return Dataset(folder, site, seed, table_format, fingerprint, digests)
