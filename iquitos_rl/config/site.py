"""The site YAML: place, PV, battery, load, feeder, vehicles and tariff of one charging site."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from iquitos_rl.config.base import Fraction, NonNegative, Positive, StrictModel

__all__ = [
    "ArrivalHours",
    "BatteryConfig",
    "DwellConfig",
    "LoadConfig",
    "LocationConfig",
    "PVConfig",
    "SessionConfig",
    "SiteConfig",
    "SocketClassConfig",
    "SplitConfig",
    "TariffConfig",
]

HOURS_PER_DAY = 24
GASOLINE_KG_PER_KWH = 2.146
"""CO2 of a vehicle that drives a kWh, which its battery lacks, on gasoline instead."""


def _start_before_end(hours: tuple[int, int]) -> tuple[int, int]:
    if hours[0] >= hours[1]:
        raise ValueError("the first hour must come before the second: [a, b] means a <= hour < b")
    return hours


Hour = Annotated[int, Field(ge=0, le=HOURS_PER_DAY)]
HourRange = Annotated[
    tuple[Hour, Hour],
    AfterValidator(_start_before_end),
    Field(description="hours [a, b] meaning a <= hour < b, with hours 0-23"),
]
FractionRange = tuple[Fraction, Fraction]


def _x_rising(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if any(right[0] <= left[0] for left, right in itertools.pairwise(points)):
        raise ValueError("the first value of each point must exceed that of the point before")
    return points


Twelve = Annotated[tuple[Positive, ...], Field(min_length=12, max_length=12)]
Curve = Annotated[
    tuple[tuple[Fraction, Fraction], ...],
    Field(min_length=2, description="points (x, y) with x rising"),
    AfterValidator(_x_rising),
]


def _check_range(name: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"{name}: the first value ({low:g}) must not exceed the second ({high:g})")


class LocationConfig(StrictModel):
    """Where the site is; the sun is computed for this place."""

    latitude_deg: Annotated[float, Field(ge=-90, le=90)]
    longitude_deg: Annotated[float, Field(ge=-180, le=180)]
    altitude_m: Annotated[float, Field(ge=-500, le=9000)]
    utc_offset_hours: Annotated[
        int, Field(ge=-12, le=14, description="local standard time; no daylight saving")
    ]


class ClearSkyIndexConfig(StrictModel):
    """Cloudiness: the ratio of real to clear-sky irradiance as a monthly mean times two AR(1) factors."""

    monthly_mean: Twelve
    daily_std: NonNegative
    daily_autocorrelation: Annotated[float, Field(ge=0, lt=1)]
    hourly_std: NonNegative
    hourly_autocorrelation: Annotated[float, Field(ge=0, lt=1)]
    minimum: Fraction
    maximum: Annotated[float, Field(gt=0, le=1.5)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum ({self.minimum:g}) must not exceed maximum ({self.maximum:g})")
        return self


class PVConfig(StrictModel):
    """A photovoltaic array, its yield and its inverter."""

    nominal_power_kwp: Positive
    tilt_deg: Annotated[float, Field(ge=0, le=90)]
    azimuth_deg: Annotated[float, Field(ge=0, lt=360, description="0 is north, 90 east")]
    annual_yield_kwh_per_kwp: Annotated[float, Field(gt=0, le=3000)]
    inverter_power_kw: Positive = Field(description="hourly power is clipped here")
    clear_sky_index: ClearSkyIndexConfig


class BatteryConfig(StrictModel):
    """The stationary battery (BESS). Every attribute CityLearn would otherwise draw at random is here."""

    capacity_kwh: Positive
    nominal_power_kw: Positive
    depth_of_discharge: Annotated[float, Field(gt=0, le=1)]
    round_trip_efficiency: Annotated[float, Field(gt=0, le=1)]
    initial_soc: Fraction = Field(description="state of charge at the start of an episode")
    standby_loss_per_hour: Fraction = 0.0
    capacity_loss_coefficient: Fraction = 0.0
    power_efficiency_curve: Curve | None = Field(
        default=None, description="round-trip efficiency by share of nominal power; constant if left out"
    )
    capacity_power_curve: Curve = ((0.0, 1.0), (1.0, 1.0))

    @model_validator(mode="after")
    def _initial_soc_above_floor(self) -> Self:
        floor = 1 - self.depth_of_discharge
        if self.initial_soc < floor - 1e-9:
            raise ValueError(
                f"initial_soc ({self.initial_soc:g}) must be at least 1 - depth_of_discharge ({floor:g})"
            )
        return self


class LoadConfig(StrictModel):
    """The site's own consumption, which cannot be shifted."""

    annual_kwh: NonNegative
    closed_fraction: NonNegative = Field(description="load of a closed hour as a share of an open hour's")
    evening_hours: HourRange
    evening_factor: NonNegative
    noise_std: Fraction = Field(description="standard deviation of the multiplicative hourly noise")


class SocketClassConfig(StrictModel):
    """A class of identical sockets; each has one vehicle, whose battery capacity is drawn every year."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    count: Annotated[int, Field(ge=1, le=2000)]
    power_kw: Positive
    charger_efficiency: Annotated[float, Field(gt=0, le=1)]
    battery_capacity_kwh: tuple[Positive, Positive] = Field(description="uniform between the two")
    battery_power_factor: Annotated[float, Field(ge=1)] = Field(
        default=2.0, description="the vehicle battery's nominal power as a multiple of the socket's"
    )
    discharge_power_kw: NonNegative = Field(default=0.0, description="above 0 for vehicle-to-grid sockets")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range("battery_capacity_kwh", *self.battery_capacity_kwh)
        return self


class ArrivalHours(StrictModel):
    """Chance that a vehicle comes to a free socket, in each hour of a range."""

    hours: HourRange
    probability: Fraction


class DwellConfig(StrictModel):
    """How long a vehicle stays: one hour, or longer; cut at closing time."""

    one_hour_probability: Fraction
    busy_hours: HourRange
    busy_one_hour_probability: Fraction = Field(description="for arrivals within busy_hours")
    long_stay_hours: Annotated[tuple[Annotated[int, Field(ge=1, le=24)], ...], Field(min_length=1)]


class SessionConfig(StrictModel):
    """The process that makes charging sessions."""

    arrivals: Annotated[tuple[ArrivalHours, ...], Field(min_length=1)]
    weekday_factor: Annotated[tuple[NonNegative, ...], Field(min_length=7, max_length=7)] = Field(
        description="Monday to Sunday, multiplies the arrival probability"
    )
    dwell: DwellConfig
    arrival_soc: FractionRange = Field(description="uniform between the two")
    required_soc: Fraction

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range("arrival_soc", *self.arrival_soc)
        taken: set[int] = set()
        for entry in self.arrivals:
            hours = set(range(*entry.hours))
            if hours & taken:
                raise ValueError(f"arrivals: hour ranges must not overlap, {list(entry.hours)} does")
            taken |= hours
        return self


class TariffConfig(StrictModel):
    """Energy price of grid import. Export earns nothing."""

    base_usd_per_kwh: NonNegative
    peak_usd_per_kwh: NonNegative
    peak_hours: HourRange


class SplitConfig(StrictModel):
    """How many years are made for each purpose. They differ by seed only."""

    train: Annotated[int, Field(ge=1, le=100)] = 5
    validation: Annotated[int, Field(ge=1, le=100)] = 1
    test: Annotated[int, Field(ge=1, le=100)] = 1

    def count(self, split: str) -> int:
        """Number of years of ``split``."""
        return int(getattr(self, split))


class SiteConfig(StrictModel):
    """One charging site: everything the dataset generator needs besides the seed."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str = ""
    location: LocationConfig
    carbon_intensity_kg_per_kwh: NonNegative
    unserved_energy_kg_per_kwh: NonNegative = Field(
        default=GASOLINE_KG_PER_KWH,
        description="CO2 of a vehicle that drives a missing kWh on gasoline instead",
    )
    seconds_per_time_step: Literal[3600] = 3600
    opening_hours: HourRange
    feeder_limit_kw: NonNegative
    sockets: Annotated[tuple[SocketClassConfig, ...], Field(min_length=1)]
    sessions: SessionConfig
    load: LoadConfig
    tariff: TariffConfig
    pv: PVConfig | None = None
    bess: BatteryConfig | None = None
    years: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [sockets.name for sockets in self.sockets]
        if len(set(names)) != len(names):
            raise ValueError(f"sockets: every class needs a name of its own, they are {', '.join(names)}")
        opening, closing = self.opening_hours
        for entry in self.sessions.arrivals:
            if entry.hours[0] < opening or entry.hours[1] > closing:
                raise ValueError(
                    f"sessions.arrivals: hours {list(entry.hours)} must lie within opening_hours "
                    f"{[opening, closing]}"
                )
        return self

    @property
    def socket_count(self) -> int:
        """Number of sockets of all classes."""
        return sum(sockets.count for sockets in self.sockets)

    @property
    def installed_power_kw(self) -> float:
        """Rated power of all sockets together."""
        return sum(sockets.count * sockets.power_kw for sockets in self.sockets)

    @property
    def action_size(self) -> int:
        """Length of the action vector: one per socket, and one for the BESS if there is one."""
        return self.socket_count + (self.bess is not None)
