"""The sun: clear-sky irradiance from pvlib, a random clear-sky index, and the PV array's output."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.site import ClearSkyIndexConfig, LocationConfig, PVConfig
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.timeline import (
    DAY_OF_ROW,
    DAYS_PER_YEAR,
    HOUR_OF_ROW,
    HOURS_PER_YEAR,
    MONTH_OF_ROW,
    mid_hour_times,
)

__all__ = ["Sun", "clear_sky_index", "make_sun", "pv_output_w_per_kw", "sun_elevation_deg"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Sun:
    """Sun and weather of one year; every array has shape (8760,).

    Attributes:
        pv_w_per_kw: output of the array's inverter per kWp, W/kW; zero without PV.
        direct_irradiance_w_per_m2: on a surface facing the sun.
        diffuse_irradiance_w_per_m2: on the horizontal.
        temperature_c: of the air outside. Plausible, not modelled; nothing of the site depends on it.
        humidity_percent: relative, outside. As the temperature.
    """

    pv_w_per_kw: FloatArray
    direct_irradiance_w_per_m2: FloatArray
    diffuse_irradiance_w_per_m2: FloatArray
    temperature_c: FloatArray
    humidity_percent: FloatArray


@dataclass(frozen=True)
class _ClearSky:
    direct: FloatArray
    diffuse: FloatArray
    on_array: FloatArray
    elevation_deg: FloatArray


@lru_cache(maxsize=8)
def _clear_sky(location: LocationConfig, tilt_deg: float, azimuth_deg: float) -> _ClearSky:
    """Clear-sky irradiance (W/m2) at the middle of each hour.

    Ineichen and Perez' model with the Linke turbidity that pvlib ships (monthly climatology), isotropic sky
    on the array's plane. Years of a site share it: they differ in clouds only.
    """
    import pvlib  # takes two seconds, and only building and validating need it

    times = mid_hour_times(location.utc_offset_hours)
    with warnings.catch_warnings():
        # pvlib 0.16 uses a name that pandas 3.1 has begun to deprecate; nothing here can change that.
        warnings.filterwarnings("ignore", message="DatetimeIndex.dayofyear")
        # pvlib's functions rather than its Location, which would look the time zone up on the machine.
        latitude, longitude, altitude = location.latitude_deg, location.longitude_deg, location.altitude_m
        position = pvlib.solarposition.get_solarposition(times, latitude, longitude, altitude=altitude)
        zenith = position["apparent_zenith"]
        pressure = pvlib.atmosphere.alt2pres(altitude)
        relative = pvlib.atmosphere.get_relative_airmass(zenith)
        airmass = pvlib.atmosphere.get_absolute_airmass(relative, pressure)
        turbidity = pvlib.clearsky.lookup_linke_turbidity(times, latitude, longitude)
        extra = pvlib.irradiance.get_extra_radiation(times)
        sky = pvlib.clearsky.ineichen(zenith, airmass, turbidity, altitude=altitude, dni_extra=extra)
        plane = pvlib.irradiance.get_total_irradiance(
            surface_tilt=tilt_deg,
            surface_azimuth=azimuth_deg,  # pvlib's convention is ours: 0 is north, 90 east
            solar_zenith=zenith,
            solar_azimuth=position["azimuth"],
            dni=sky["dni"],
            ghi=sky["ghi"],
            dhi=sky["dhi"],
            model="isotropic",
        )
    elevation = position["apparent_elevation"].to_numpy(dtype=np.float64)
    up = elevation > 0

    def values(column: object) -> FloatArray:
        array = np.where(up, np.maximum(np.nan_to_num(np.asarray(column, dtype=np.float64)), 0.0), 0.0)
        array.setflags(write=False)
        return array

    return _ClearSky(values(sky["dni"]), values(sky["dhi"]), values(plane["poa_global"]), elevation)


def sun_elevation_deg(location: LocationConfig) -> FloatArray:
    """Apparent elevation of the sun in the middle of each hour, degrees above the horizon, shape (8760,)."""
    return _clear_sky(location, 0.0, 0.0).elevation_deg


def _ar1(rng: np.random.Generator, count: int, std: float, autocorrelation: float) -> FloatArray:
    """A stationary first-order autoregressive series with mean 0 and standard deviation ``std``."""
    noise = rng.standard_normal(count)
    innovation = float(np.sqrt(1.0 - autocorrelation**2))
    values = np.empty(count)
    value = values[0] = noise[0]
    for i in range(1, count):
        value = values[i] = autocorrelation * value + innovation * noise[i]
    return std * values


def clear_sky_index(config: ClearSkyIndexConfig, rng: np.random.Generator) -> FloatArray:
    """Ratio of real to clear-sky irradiance of each hour, shape (8760,), within [minimum, maximum].

    Monthly mean x (1 + daily AR(1)) x (1 + hourly AR(1)): cloudy days follow cloudy days, and clouds drift
    through a day.
    """
    monthly = np.array(config.monthly_mean)[MONTH_OF_ROW - 1]
    daily = _ar1(rng, DAYS_PER_YEAR, config.daily_std, config.daily_autocorrelation)[DAY_OF_ROW]
    hourly = _ar1(rng, HOURS_PER_YEAR, config.hourly_std, config.hourly_autocorrelation)
    return np.clip(monthly * (1.0 + daily) * (1.0 + hourly), config.minimum, config.maximum)


def pv_output_w_per_kw(irradiance_w_per_m2: FloatArray, config: PVConfig) -> FloatArray:
    """Inverter output (W per kWp), proportional to the irradiance on the array up to the inverter's limit.

    The factor is the one that gives the configured annual yield after clipping (found by bisection).

    Raises:
        DatasetError: no factor does, because the inverter is too small for the yield.
    """
    target = config.annual_yield_kwh_per_kwp * 1000.0
    limit = 1000.0 * config.inverter_power_kw / config.nominal_power_kwp

    def output(factor: float) -> FloatArray:
        return np.minimum(factor * irradiance_w_per_m2, limit)

    most = limit * float(np.count_nonzero(irradiance_w_per_m2 > 0))
    if target >= most:
        raise DatasetError(
            f"pv.annual_yield_kwh_per_kwp {config.annual_yield_kwh_per_kwp:g} cannot be reached: an inverter "
            f"of {config.inverter_power_kw:g} kW lets through at most {most / 1000:.0f} kWh/kWp; "
            "raise pv.inverter_power_kw"
        )
    low, high = 0.0, target / float(irradiance_w_per_m2.sum())
    while output(high).sum() < target:
        high *= 2.0
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        if output(middle).sum() < target:
            low = middle
        else:
            high = middle
    return output(high)


def make_sun(location: LocationConfig, pv: PVConfig | None, rng: np.random.Generator) -> Sun:
    """Draw one year of sun and weather.

    A site without PV has weather all the same (an index of 0.6 throughout), because CityLearn asks for it.
    """
    sky = _clear_sky(location, pv.tilt_deg if pv else 0.0, pv.azimuth_deg if pv else 0.0)
    index = clear_sky_index(pv.clear_sky_index, rng) if pv else np.full(HOURS_PER_YEAR, 0.6)
    output = pv_output_w_per_kw(sky.on_array * index, pv) if pv else np.zeros(HOURS_PER_YEAR)
    # Warmest at 14 h; cloudy days are cooler and damper.
    daytime = np.cos(2.0 * np.pi * (HOUR_OF_ROW - 14) / 24.0)
    day_index = np.bincount(DAY_OF_ROW, weights=index)[DAY_OF_ROW] / 24.0
    temperature = 24.5 + 3.0 * day_index + (2.0 + 3.0 * day_index) * daytime
    return Sun(
        pv_w_per_kw=output.round(4),
        direct_irradiance_w_per_m2=(sky.direct * index).round(3),
        diffuse_irradiance_w_per_m2=(sky.diffuse * index).round(3),
        temperature_c=temperature.round(2),
        humidity_percent=np.clip(85.0 - 3.5 * (temperature - 26.0), 30.0, 100.0).round(1),
    )
