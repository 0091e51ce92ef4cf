"""One year of a site as numbers: drawn from the site's configuration, before any table is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.site import SiteConfig, TariffConfig
from iquitos_rl.site.load import make_load_kwh
from iquitos_rl.site.sessions import Sessions, Socket, make_sessions, make_sockets
from iquitos_rl.site.sun import Sun, make_sun
from iquitos_rl.site.timeline import HOUR_OF_ROW, HOURS_PER_YEAR, Split, in_hours, random_stream

__all__ = ["SiteYear", "make_year"]


@dataclass(frozen=True)
class SiteYear:
    """Everything that happens to the site in a year, whatever a controller does.

    Attributes:
        sun: PV output per kWp, irradiance, weather.
        pv_nominal_power_kwp: size of the array; 0 without PV.
        load_kwh: of the site itself, shape (8760,).
        price_usd_per_kwh: of import, shape (8760,).
        carbon_intensity_kg_per_kwh: of the grid, shape (8760,).
        feeder_limit_kw: most that the sockets may draw together.
        sockets: with their vehicles.
        sessions: of the whole year.
    """

    sun: Sun
    pv_nominal_power_kwp: float
    load_kwh: NDArray[np.float64]
    price_usd_per_kwh: NDArray[np.float64]
    carbon_intensity_kg_per_kwh: NDArray[np.float64]
    feeder_limit_kw: float
    sockets: tuple[Socket, ...]
    sessions: Sessions

    @property
    def pv_generation_kwh(self) -> NDArray[np.float64]:
        """Output of the array, shape (8760,)."""
        return self.sun.pv_w_per_kw * (self.pv_nominal_power_kwp / 1000.0)


def _price_usd_per_kwh(tariff: TariffConfig) -> NDArray[np.float64]:
    peak = in_hours(HOUR_OF_ROW, tariff.peak_hours)
    return np.where(peak, tariff.peak_usd_per_kwh, tariff.base_usd_per_kwh)


def make_year(site: SiteConfig, seed: int, split: Split, year: int) -> SiteYear:
    """Draw one year. The same arguments give the same numbers, in any order and on any number of cores.

    Raises:
        DatasetError: the configuration cannot be met (PV yield beyond the inverter).
    """
    sockets = make_sockets(site, random_stream(seed, split, year, "vehicles"))
    return SiteYear(
        sun=make_sun(site.location, site.pv, random_stream(seed, split, year, "sun")),
        pv_nominal_power_kwp=site.pv.nominal_power_kwp if site.pv else 0.0,
        load_kwh=make_load_kwh(site.load, site.opening_hours, random_stream(seed, split, year, "load")),
        price_usd_per_kwh=_price_usd_per_kwh(site.tariff),
        carbon_intensity_kg_per_kwh=np.full(HOURS_PER_YEAR, site.carbon_intensity_kg_per_kwh),
        feeder_limit_kw=site.feeder_limit_kw,
        sockets=sockets,
        sessions=make_sessions(site, len(sockets), random_stream(seed, split, year, "sessions")),
    )
