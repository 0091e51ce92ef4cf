"""Building a dataset: every year of every split, written beside its final place, then moved there."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from iquitos_rl.config.site import SiteConfig
from iquitos_rl.site.dataset import (
    DESCRIPTION_FILE,
    FORMAT,
    FORMAT_VERSION,
    Dataset,
    fingerprint_of,
    load_dataset,
)
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.no_control import no_control_year
from iquitos_rl.site.schema import make_schema
from iquitos_rl.site.storage import TableFormat, file_sha256, read_json, write_json, write_table
from iquitos_rl.site.tables import (
    building_columns,
    carbon_columns,
    charger_columns,
    pricing_columns,
    weather_columns,
)
from iquitos_rl.site.timeline import SPLITS, Split
from iquitos_rl.site.year import SiteYear, make_year

__all__ = ["Progress", "build_dataset", "write_year"]

_log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being made, how many parts are done, and how many there are."""

_LARGEST_SEED = 2**31 - 1
_LIBRARIES = ("iquitos-rl", "numpy", "pandas", "pvlib", "pyarrow")


def build_dataset(
    site: SiteConfig,
    out: Path | str,
    seed: int,
    *,
    table_format: TableFormat = "parquet",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Make the dataset of a site in the folder ``out``.

    Equal arguments give equal bytes (with the same library versions) on any number of cores. ``out`` appears
    only when everything is written: an interrupted build leaves at most a hidden folder beside it, which the
    next build removes. If ``out`` holds this very dataset already, undamaged, it is returned as it is.

    Args:
        site: what to make, and how many years of it.
        out: folder to make; its parents are made too.
        seed: 0 to 2**31 - 1.
        table_format: of the tables; CSV is about six times larger.
        overwrite: replace another dataset in ``out``. Never replaces anything but a dataset.
        progress: told about every year.

    Raises:
        DatasetError: ``out`` holds something else, or the site cannot be built.
    """
    out = Path(out).expanduser().absolute()
    if not 0 <= seed <= _LARGEST_SEED:
        raise DatasetError(f"seed {seed} is out of range: allowed are 0 to {_LARGEST_SEED}")
    if table_format not in ("parquet", "csv"):
        raise DatasetError(f"table format {table_format!r} is unknown: allowed are parquet and csv")
    existing = _existing(out, site, seed, table_format, overwrite)
    if existing is not None:
        _log.info("%s is up to date: same site, seed and format, all files intact", out)
        return existing

    with _partial_folder(out) as partial:
        years = [(split, year) for split in SPLITS for year in range(site.years.count(split))]
        for done, (split, year) in enumerate(years):
            if progress:
                progress(f"{split} year {year}", done, len(years))
            data = make_year(site, seed, split, year)
            write_year(data, site, partial / split / f"year_{year}", table_format, seed, split, year)
        if progress:
            progress("done", len(years), len(years))
        files = _digests(partial)
        write_json(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "site": site.model_dump(mode="json"),
                "seed": seed,
                "table_format": table_format,
                "fingerprint": fingerprint_of(files),
                "made_with": {name: _version(name) for name in _LIBRARIES},
                "files": files,
            },
            partial / DESCRIPTION_FILE,
        )
        _move_into_place(partial, out)
    return load_dataset(out)


def write_year(
    data: SiteYear,
    site: SiteConfig,
    folder: Path,
    table_format: TableFormat,
    seed: int,
    split: Split,
    year: int,
) -> None:
    """Write schema, tables and the no-control year of one year into ``folder``."""
    tables: dict[str, dict[str, Any]] = {
        "building": building_columns(data),
        "weather": weather_columns(data),
        "pricing": pricing_columns(data),
        "carbon_intensity": carbon_columns(data),
    }
    for name, columns in tables.items():
        write_table(columns, folder / f"{name}.{table_format}")
    for name, columns in charger_columns(data):
        write_table(columns, folder / "chargers" / f"{name}.{table_format}")
    write_json(make_schema(site, data.sockets, table_format, seed, split, year), folder / "schema.json")

    no_control = no_control_year(data, site)
    hourly = {str(name): values.to_numpy() for name, values in no_control.hourly.items()}
    write_table(hourly, folder / f"no_control.{table_format}")
    write_json(
        {**no_control.totals(), "site": site.name, "split": split, "year": year}, folder / "no_control.json"
    )


def _existing(
    out: Path, site: SiteConfig, seed: int, table_format: TableFormat, overwrite: bool
) -> Dataset | None:
    """The dataset in ``out`` if it is the one asked for; None if ``out`` is free or may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not _is_ours(out):
        raise DatasetError(f"{out}: holds something that is no dataset of ours; choose another --out")
    try:
        dataset = load_dataset(out)
        wanted = {"site": site, "seed": seed, "table_format": table_format}
        reasons = [
            _difference(name, getattr(dataset, name), value)
            for name, value in wanted.items()
            if getattr(dataset, name) != value
        ]
        damaged = dataset.verify() if not reasons else ()
        if damaged:
            reasons.append(f"{len(damaged)} of its files were changed, the first is {damaged[0]}")
    except DatasetError as error:
        reasons = [str(error)]
    if not reasons:
        return dataset
    if overwrite:
        _log.info("%s will be replaced: %s", out, "; ".join(reasons))
        return None
    raise DatasetError(f"{out}: holds another dataset ({'; '.join(reasons)}); add --force to replace it")


def _difference(name: str, have: Any, want: Any) -> str:
    if isinstance(have, SiteConfig) and isinstance(want, SiteConfig):
        keys = [key for key in type(want).model_fields if getattr(have, key) != getattr(want, key)]
        return "the site differs in " + ", ".join(keys)
    return f"{name} is {have}, asked for is {want}"


def _is_ours(out: Path) -> bool:
    try:
        return read_json(out / DESCRIPTION_FILE).get("format") == FORMAT
    except DatasetError:
        return False


@contextmanager
def _partial_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out`` to write into, locked while in use and removed if the build fails.

    The lock tells a build that still runs from the leftovers of one that was killed.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for leftover in out.parent.glob(f".{out.name}.partial-*"):
            _remove_unless_locked(leftover)
        partial = out.parent / f".{out.name}.partial-{os.getpid()}"
        partial.mkdir()
    except OSError as error:
        raise DatasetError(f"{out}: cannot write there ({error.strerror or error})") from None
    handle = os.open(partial, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: leftovers then stay until removed by hand
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield partial
    except OSError as error:
        raise DatasetError(f"{out}: cannot write the dataset ({error.strerror or error})") from error
    finally:
        os.close(handle)
        shutil.rmtree(partial, ignore_errors=True)


def _remove_unless_locked(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # another build has removed it meanwhile
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _log.info("%s belongs to a build that is still running", folder)
    else:
        _log.info("removing %s, left by an interrupted build", folder)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _move_into_place(partial: Path, out: Path) -> None:
    """Rename ``partial`` to ``out``; a dataset that was there is moved away first and then removed."""
    old = out.parent / f".{out.name}.partial-{os.getpid()}-old"
    if out.exists():
        out.rename(old)
    try:
        partial.rename(out)
    except OSError as error:
        if old.exists():
            old.rename(out)
        raise DatasetError(f"{out}: cannot move the finished dataset there ({error.strerror})") from None
    shutil.rmtree(old, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: file_sha256(folder / name) for name in names}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"
