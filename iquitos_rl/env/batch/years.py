"""The years of a site, read once and shared: parameters, and tables that are memory-mapped from a cache.

Parsing a year of 128 sockets takes about a second; mapping it, nothing. The cache is keyed by what is in the
files, so it is never stale, and its pages are shared by all processes of a machine that use the same years.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from iquitos_rl.env import observation as observation_module
from iquitos_rl.env.batch import raw as raw_module
from iquitos_rl.env.batch import schema as schema_module
from iquitos_rl.env.batch import tables as tables_module
from iquitos_rl.env.batch.raw import raw_table
from iquitos_rl.env.batch.schema import SiteParameters, read_parameters
from iquitos_rl.env.batch.tables import INCOMING, ChargerTables, read_charger_tables, read_site_tables
from iquitos_rl.env.observation import (
    LOOKAHEAD_HOURS,
    FeatureLayout,
    SiteScales,
    SiteState,
    SocketState,
    feature_vector,
)
from iquitos_rl.site import storage as storage_module

__all__ = ["CACHE_VARIABLE", "SiteYears", "YearTables", "cache_folder", "load_years"]

LOGGER = logging.getLogger(__name__)

CACHE_VARIABLE = "IQUITOS_RL_CACHE"
"""Environment variable: the folder for prepared tables; empty for none."""
UNUSED_DAYS = 30
"""Entries of the cache that were not used for so long are removed when a new one is made."""
PARTIAL = ".partial-"
HOUR_COLUMNS = ("load_kwh", "pv_kwh", "price", "carbon_intensity", "hour")
"""Columns of `YearTables.hours`."""


@dataclass(frozen=True)
class YearTables:
    """The hours of all years, one year after the other, read-only.

    Attributes:
        hours: `HOUR_COLUMNS`, shape (rows, 5).
        site_features: the site's features that do not depend on actions, 0 for the others; shape
            (rows, features).
        day_type: 0 Monday to 6 Sunday, shape (rows,).
        departures: number of vehicles that leave at the end of the hour, shape (rows,).
        occupied: where a vehicle is connected; shape (rows, sockets), like all that follow.
        hours_left: connected hours left, this one included; 0 without a vehicle; 1 in its last hour.
        required_soc: at departure; 0 without a vehicle, or if none is required.
        start_soc: state of charge at the start of an episode that begins in this row.
        stays: where the vehicle was here the hour before.
        new_soc: state of charge of a vehicle that arrives in this row; 0 without a vehicle, or for one that
            stays.
        vehicle: number of the connected vehicle in the year's schema, -1 without one.
        raw: CityLearn's own observation as far as it does not depend on actions (`raw_table`), shape
            (rows, names); of no columns if it was not asked for.
    """

    hours: NDArray[np.float32]
    site_features: NDArray[np.float32]
    day_type: NDArray[np.int8]
    departures: NDArray[np.int32]
    occupied: NDArray[np.bool_]
    hours_left: NDArray[np.float32]
    required_soc: NDArray[np.float32]
    start_soc: NDArray[np.float32]
    stays: NDArray[np.bool_]
    new_soc: NDArray[np.float32]
    vehicle: NDArray[np.int16]
    raw: NDArray[np.float32]


@dataclass(frozen=True)
class SiteYears:
    """Several years of one site.

    Attributes:
        parameters: of each year.
        tables: of all years.
        scales: what features are divided by, of each year.
    """

    parameters: tuple[SiteParameters, ...]
    tables: YearTables
    scales: tuple[SiteScales, ...]

    @cached_property
    def first_row(self) -> NDArray[np.intp]:
        """Row of `tables` at which each year begins."""
        return np.concatenate([[0], np.cumsum([p.rows for p in self.parameters])[:-1]]).astype(np.intp)

    @property
    def rows(self) -> NDArray[np.intp]:
        """Number of rows of each year."""
        return np.array([p.rows for p in self.parameters], np.intp)

    @property
    def socket_names(self) -> tuple[str, ...]:
        """Names of the sockets."""
        return self.parameters[0].socket_names

    @property
    def has_bess(self) -> bool:
        """Whether the site has a battery."""
        return self.parameters[0].bess is not None


def cache_folder() -> Path | None:
    """Where prepared tables are kept: `CACHE_VARIABLE`, else the user's cache folder; None if it is empty."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is None:
        return Path(platformdirs.user_cache_dir("iquitos_rl")) / "years"
    folder = Path(chosen).expanduser()
    if chosen and not folder.is_absolute():  # Ray's workers run in other folders
        raise ValueError(f"{CACHE_VARIABLE}={chosen}: expected an absolute path, or nothing for no cache")
    return folder if chosen else None


def load_years(schemas: Sequence[Path], *, raw: bool = False, cache: Path | None = None) -> SiteYears:
    """Read the years of a site, from the cache if it has them.

    Args:
        schemas: CityLearn schemas, one for each year.
        raw: prepare CityLearn's own observation too.
        cache: folder for prepared tables; `cache_folder` if None. If it cannot be written to, the tables are
            kept in memory, with a log line.

    Raises:
        FileNotFoundError: a schema that is not there.
        DatasetError: a table that is missing or unreadable.
        UnsupportedSchemaError: a year with features (``raw``: or observations) that are not modelled.
        ValueError: years that are not of one site.
    """
    parameters = tuple(read_parameters(Path(schema)) for schema in schemas)
    _check_same_site(parameters)
    folder = cache if cache is not None else cache_folder()
    tables = None
    entry = None
    if folder is not None:
        entry = folder / _digest(parameters, raw=raw)
        tables = _mapped(entry)
    if tables is None:
        built = [_prepare(year, raw=raw) for year in parameters]
        tables = YearTables(
            **{f.name: np.concatenate([getattr(year, f.name) for year in built]) for f in fields(YearTables)}
        )
        # Not under a name that the files no longer have, if someone has built them anew meanwhile.
        if entry is not None and _digest(parameters, raw=raw) == entry.name:
            tables = _store(tables, entry)
    rows = np.cumsum([0, *(p.rows for p in parameters)])
    scales = tuple(
        _scales(year, tables.hours[first:last])
        for year, first, last in zip(parameters, rows[:-1], rows[1:], strict=True)
    )
    return SiteYears(parameters, tables, scales)


def _check_same_site(parameters: Sequence[SiteParameters]) -> None:
    first = parameters[0]
    for other in parameters[1:]:
        if other.socket_names != first.socket_names:
            raise ValueError(f"{other.schema}: other sockets than {first.schema}")
        for what in ("bess", "limit_kw", "phases"):
            if getattr(other, what) != getattr(first, what):
                raise ValueError(f"{other.schema}: another {what} than {first.schema}")
        for one, another in zip(first.chargers, other.chargers, strict=True):
            if replace(another, table=one.table) != one:
                raise ValueError(f"{other.schema}: another rating of {one.name} than {first.schema}")


def _prepare(parameters: SiteParameters, *, raw: bool) -> YearTables:
    """Read one year's files."""
    site = read_site_tables(parameters)
    sockets = read_charger_tables(parameters)
    occupied = sockets.vehicle >= 0
    hours_left = np.where(occupied, np.maximum(sockets.hours_left, 0), 0).astype(np.float32)
    hours = np.stack(
        [site.load_kwh, site.pv_kwh, site.price, site.carbon_intensity, site.hour.astype(np.float32)], axis=1
    )
    scales = _scales(parameters, hours)
    new_soc = np.nan_to_num(sockets.new_soc)
    new_soc[-1] = _last_soc(sockets)
    return YearTables(
        hours=hours,
        site_features=_site_features(hours, site.day_type, occupied, scales),
        day_type=site.day_type.astype(np.int8),
        departures=(hours_left == 1.0).sum(axis=1).astype(np.int32),
        occupied=occupied,
        hours_left=hours_left,
        required_soc=np.where(occupied, np.maximum(sockets.required_soc, 0), 0).astype(np.float32),
        start_soc=sockets.start_soc,
        stays=np.isnan(sockets.new_soc),
        new_soc=new_soc,
        vehicle=sockets.vehicle,
        raw=raw_table(parameters, site, sockets) if raw else np.zeros((parameters.rows, 0), np.float32),
    )


def _last_soc(sockets: ChargerTables) -> NDArray[np.float32]:
    """State of charge with which vehicles that arrive in the last row are seen; 0 for all others.

    That row is never simulated: CityLearn has not connected them yet, and shows what it gave to those away.
    """
    announced = (sockets.state[-2] == INCOMING) & (sockets.named[-2] == sockets.vehicle[-1])
    seen = np.where(announced, sockets.estimated_soc[-2], sockets.estimated_soc[-1])
    arriving = (sockets.vehicle[-1] >= 0) & ~np.isnan(sockets.new_soc[-1])
    return np.where(arriving, np.maximum(seen, 0), 0).astype(np.float32)


def _scales(parameters: SiteParameters, hours: NDArray[np.float32]) -> SiteScales:
    """What features are divided by: as `CityLearnSite` reads it."""
    load, _, price, carbon, _ = hours.T
    chargers = parameters.chargers

    def efficiency(number: int) -> float:
        charger = chargers[number]
        if charger.charge_curve is None:
            return charger.efficiency
        return float(np.interp(1.0, *np.transpose(charger.charge_curve)))

    return SiteScales(
        pv_kwp=parameters.pv_kwp,
        mean_load_kwh=float(np.mean(load)),
        highest_price_usd_per_kwh=float(np.max(price)),
        highest_carbon_intensity_kg_per_kwh=float(np.max(carbon)),
        feeder_limit_kw=float("inf") if parameters.limit_kw is None else parameters.limit_kw,
        rated_power_kw=np.array([c.max_charging_kw for c in chargers], float),
        charger_efficiency=np.array([efficiency(k) for k in range(len(chargers))], float),
        largest_battery_kwh=max((v.capacity_kwh for v in parameters.vehicles.values()), default=0.0),
    )


def _site_features(
    hours: NDArray[np.float32], day_type: NDArray[np.int32], occupied: NDArray[np.bool_], scales: SiteScales
) -> NDArray[np.float32]:
    """The site's part of the observation, by the very function that the reference uses."""
    rows = len(hours)
    load, pv, price, carbon, hour = hours.T.astype(np.float64)
    ahead = np.minimum(np.arange(rows)[:, None] + np.arange(1 + LOOKAHEAD_HOURS), rows - 1)
    nothing = np.zeros(rows)
    state = SiteState(
        hour_of_year=np.arange(rows, dtype=float),
        hour=hour,
        day_type=day_type.astype(float),
        pv_kwh=pv[ahead],
        load_kwh=load,
        price_usd_per_kwh=price[ahead],
        carbon_intensity_kg_per_kwh=carbon,
        bess_soc=nothing,
        previous_net_kwh=nothing,
        day_peak_kw=nothing,
    )
    # One empty socket instead of all: their own features are not wanted here, and would be a large array.
    layout = FeatureLayout(("none",))
    blank = np.zeros((rows, 1))
    one = replace(scales, rated_power_kw=np.ones(1), charger_efficiency=np.ones(1))
    empty = SocketState(blank > 0, blank, blank, blank, blank)
    vector = feature_vector(state, empty, one, layout, layout.bounds)[:, layout.site_slice]
    vector[:, layout.index("occupancy")] = occupied.mean(axis=1)
    return np.ascontiguousarray(vector)


def _digest(parameters: Sequence[SiteParameters], *, raw: bool) -> str:
    """Name of the cache entry of these years: what is in their files, and the code that reads them."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"raw {raw}, CityLearn {importlib.metadata.version('citylearn')}".encode())
    for module in (schema_module, tables_module, raw_module, observation_module, storage_module):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    for year in parameters:
        files = [year.schema, year.site_table, year.pricing_table, year.carbon_table, year.weather_table]
        for file in [*files, *(charger.table for charger in year.chargers)]:
            content = file.read_bytes() if file is not None and file.is_file() else b""
            digest.update(f"{file.name if file else ''} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _mapped(entry: Path) -> YearTables | None:
    """The tables of a cache entry; None if there is none, or it cannot be used."""
    if not entry.is_dir():
        return None
    try:
        # A plain array over the mapped file: NumPy is slower on its memmap class.
        tables = YearTables(
            **{
                f.name: np.asarray(np.load(entry / f"{f.name}.npy", mmap_mode="r"))
                for f in fields(YearTables)
            }
        )
        _touch(entry)
        return tables
    except (FileNotFoundError, EOFError, ValueError) as error:
        LOGGER.warning("%s: damaged (%s); the tables are read anew", entry, error)
        shutil.rmtree(entry, ignore_errors=True)
    except OSError as error:
        LOGGER.warning("%s: cannot be used (%s); the tables are read anew", entry, error)
    return None


def _touch(entry: Path) -> None:
    """Note that an entry is in use; another user's cannot be noted."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def _remove_unused(folder: Path) -> None:
    """Remove entries that nobody has used for long, and what killed processes have left."""
    for entry in folder.iterdir():
        age_days = (time.time() - entry.stat().st_mtime) / 86400
        if age_days > (1 if entry.name.startswith(PARTIAL) else UNUSED_DAYS):
            shutil.rmtree(entry, ignore_errors=True)


def _store(tables: YearTables, entry: Path) -> YearTables:
    """Put tables into the cache and map them from there; several processes may do this at once."""
    partial = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        _remove_unused(entry.parent)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=entry.parent))
        for f in fields(YearTables):
            np.save(partial / f"{f.name}.npy", getattr(tables, f.name))
        partial.chmod(0o755)  # for the other users of a shared folder
        partial.rename(entry)
    except OSError as error:
        if not entry.is_dir():  # else another process was faster
            LOGGER.warning("%s: cannot keep prepared tables here (%s)", entry.parent, error)
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return _mapped(entry) or tables
