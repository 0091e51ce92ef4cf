"""The ``features`` observation: what a controller needs to know, scaled to about [-1, 1], laid out by name.

The vector is the site's features followed by one block of equal length for each socket, so that a model can
view the second part as a table (sockets, features). Every function works on arrays with any leading shape, so
that one implementation serves one environment and many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LOOKAHEAD_HOURS",
    "SITE_FEATURES",
    "SOCKET_FEATURES",
    "FeatureLayout",
    "SiteScales",
    "SiteState",
    "SocketState",
    "feature_vector",
    "idle_sockets",
]

FloatArray = NDArray[np.float64]

LOOKAHEAD_HOURS = 3
"""How many later hours of PV and price an observation shows."""
HOURS_PER_DAY = 24
HOURS_PER_YEAR = 8760
FULL_SOC = 1.0 - 1e-6
"""A vehicle at or above this has no room left."""
STAY_SCALE_HOURS = 12.0
LAXITY_SCALE_HOURS = 6.0

SITE_FEATURES: dict[str, tuple[str, float, float]] = {
    # name: (meaning and unit before scaling, lowest, highest)
    "hour_sin": ("sine of the hour of day", -1, 1),
    "hour_cos": ("cosine of the hour of day", -1, 1),
    "year_sin": ("sine of the time of year", -1, 1),
    "year_cos": ("cosine of the time of year", -1, 1),
    "week_sin": ("sine of the day of week", -1, 1),
    "week_cos": ("cosine of the day of week", -1, 1),
    "pv": ("PV generation of this hour / PV nominal power", 0, 1.2),
    **{f"pv_next_{k}": (f"PV generation {k} h later / nominal", 0, 1.2) for k in (1, 2, 3)},
    "load": ("non-shiftable load of this hour / twice the mean load", 0, 2),
    "price": ("price of this hour / highest price", 0, 1),
    **{f"price_next_{k}": (f"price {k} h later / highest price", 0, 1) for k in (1, 2, 3)},
    "carbon_intensity": ("carbon intensity of this hour / highest", 0, 1),
    "bess_soc": ("state of charge of the BESS (0 without one)", 0, 1),
    "previous_net_consumption": ("net consumption of the previous hour / site scale", -2, 2),
    "day_peak": ("running import peak of the day / site scale", 0, 2),
    "feeder_share": ("feeder limit / rated power of the sockets that are not idle, at most 1", 0, 1),
    "occupancy": ("share of sockets with a vehicle", 0, 1),
    "energy_needed": ("energy all vehicles need / an hour of the feeder / 4", 0, 2),
}
SOCKET_FEATURES: dict[str, tuple[str, float, float]] = {
    "occupied": ("1 with a vehicle, else 0; all that follows but the rating is 0 without one", 0, 1),
    "soc": ("state of charge of the vehicle now", 0, 1),
    "soc_gap": ("required state of charge less the present one, at least 0", 0, 1),
    "energy_needed": ("kWh at the socket to the required SOC / largest vehicle battery", 0, 2),
    "hours_to_departure": ("connected hours left, this one included / 12", 0, 1),
    "laxity": ("hours left less hours of full power still needed / 6", -1, 1),
    "rated_power": ("rated power / largest rated power", 0, 1),
}


@dataclass(frozen=True)
class FeatureLayout:
    """Where each feature is in the observation vector.

    Attributes:
        sockets: names of the sockets, in the order of the action vector.
    """

    sockets: tuple[str, ...]

    @property
    def size(self) -> int:
        """Length of the vector."""
        return len(SITE_FEATURES) + len(self.sockets) * len(SOCKET_FEATURES)

    @property
    def site_slice(self) -> slice:
        """The site's part of the vector."""
        return slice(0, len(SITE_FEATURES))

    @property
    def sockets_slice(self) -> slice:
        """The sockets' part; reshape it to (..., sockets, `socket_feature_count`)."""
        return slice(len(SITE_FEATURES), self.size)

    @property
    def socket_feature_count(self) -> int:
        """Features of one socket."""
        return len(SOCKET_FEATURES)

    def socket_slice(self, socket: int | str) -> slice:
        """The block of one socket, by number or name. Raises ValueError for a name that is not there."""
        number = self.sockets.index(socket) if isinstance(socket, str) else socket
        start = len(SITE_FEATURES) + number * len(SOCKET_FEATURES)
        return slice(start, start + len(SOCKET_FEATURES))

    def index(self, feature: str, socket: int | str | None = None) -> int:
        """Position of a feature of the site, or of a socket. Raises ValueError for an unknown name."""
        if socket is None:
            return list(SITE_FEATURES).index(feature)
        return self.socket_slice(socket).start + list(SOCKET_FEATURES).index(feature)

    @property
    def names(self) -> list[str]:
        """Name of every position, e.g. ``pv_next_1`` and ``moto_001.soc``."""
        return list(SITE_FEATURES) + [f"{s}.{name}" for s in self.sockets for name in SOCKET_FEATURES]

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lowest and highest value of every position; values are clipped to them."""
        low = [b[1] for b in SITE_FEATURES.values()]
        high = [b[2] for b in SITE_FEATURES.values()]
        low += [b[1] for b in SOCKET_FEATURES.values()] * len(self.sockets)
        high += [b[2] for b in SOCKET_FEATURES.values()] * len(self.sockets)
        return np.array(low, np.float32), np.array(high, np.float32)

    def to_json(self) -> dict[str, object]:
        """The layout as plain values, to be kept beside a policy."""
        return {
            "site_features": list(SITE_FEATURES),
            "socket_features": list(SOCKET_FEATURES),
            "sockets": list(self.sockets),
        }


@dataclass(frozen=True)
class SiteScales:
    """Constants of a site that features are divided by; of each environment's schema, never of a window.

    Attributes:
        pv_kwp: nominal power of the PV array, 0 without one.
        mean_load_kwh: mean hourly load.
        highest_price_usd_per_kwh: of the year.
        highest_carbon_intensity_kg_per_kwh: of the year.
        feeder_limit_kw: of the sockets together; infinite without a limit.
        rated_power_kw: of each socket, shape (sockets,).
        charger_efficiency: of each socket, shape (sockets,).
        largest_battery_kwh: largest vehicle battery.
    """

    pv_kwp: float
    mean_load_kwh: float
    highest_price_usd_per_kwh: float
    highest_carbon_intensity_kg_per_kwh: float
    feeder_limit_kw: float
    rated_power_kw: FloatArray
    charger_efficiency: FloatArray
    largest_battery_kwh: float

    @property
    def feeder_kw(self) -> float:
        """The most the sockets can draw together."""
        return float(min(self.feeder_limit_kw, self.rated_power_kw.sum()))

    @property
    def net_kw(self) -> float:
        """Scale of the site's net consumption: a busy hour, or full sun."""
        return max(self.feeder_kw + 2 * self.mean_load_kwh, self.pv_kwp, 1e-6)


@dataclass(frozen=True)
class SiteState:
    """What is known of the site at the start of an hour, that hour's PV and load included; shape (...,).

    Attributes:
        hour_of_year: 0-8759.
        hour: hour of day, 0-23.
        day_type: 0 Monday to 6 Sunday.
        pv_kwh: PV of this hour and the next `LOOKAHEAD_HOURS`, shape (..., 1 + LOOKAHEAD_HOURS).
        load_kwh: non-shiftable load of this hour.
        price_usd_per_kwh: of this hour and the next, shape (..., 1 + LOOKAHEAD_HOURS).
        carbon_intensity_kg_per_kwh: of this hour.
        bess_soc: state of charge now.
        previous_net_kwh: net consumption of the hour before, 0 at the start of an episode.
        day_peak_kw: highest import of this day so far.
    """

    hour_of_year: FloatArray
    hour: FloatArray
    day_type: FloatArray
    pv_kwh: FloatArray
    load_kwh: FloatArray
    price_usd_per_kwh: FloatArray
    carbon_intensity_kg_per_kwh: FloatArray
    bess_soc: FloatArray
    previous_net_kwh: FloatArray
    day_peak_kw: FloatArray


@dataclass(frozen=True)
class SocketState:
    """What is known of the sockets at the start of an hour. Arrays of shape (..., sockets).

    Attributes:
        occupied: whether a vehicle is connected.
        soc: its state of charge, any value where there is none.
        required_soc: at departure; 0 where none is required.
        capacity_kwh: of its battery.
        hours_to_departure: connected hours left, this one included.
    """

    occupied: NDArray[np.bool_]
    soc: NDArray[np.floating[Any]]
    required_soc: NDArray[np.floating[Any]]
    capacity_kwh: NDArray[np.floating[Any]]
    hours_to_departure: NDArray[np.floating[Any]]


def idle_sockets(sockets: SocketState) -> NDArray[np.bool_]:
    """Sockets without a vehicle, or with one that has no room left; shape (..., sockets)."""
    return ~sockets.occupied | (sockets.soc >= FULL_SOC)


def _divided(values: FloatArray, scale: float) -> FloatArray:
    return values / scale if scale > 0 else np.zeros_like(values)


def _cycle(phase: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.sin(2 * np.pi * phase), np.cos(2 * np.pi * phase)


def energy_needed_kwh(sockets: SocketState, scales: SiteScales) -> FloatArray:
    """Energy (kWh at the socket) that each vehicle needs to its required SOC; shape (..., sockets)."""
    gap = np.where(sockets.occupied, np.maximum(0.0, sockets.required_soc - sockets.soc), 0.0)
    return gap * sockets.capacity_kwh / scales.charger_efficiency


def feature_vector(
    site: SiteState,
    sockets: SocketState,
    scales: SiteScales,
    layout: FeatureLayout,
    bounds: Sequence[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """The observation, shape (..., layout.size), clipped to ``bounds`` (those of the layout)."""
    occupied = sockets.occupied
    needed = energy_needed_kwh(sockets, scales)
    hours_left = np.where(occupied, sockets.hours_to_departure, 0.0)
    laxity = np.where(occupied, hours_left - needed / scales.rated_power_kw, 0.0)
    active_kw = np.where(idle_sockets(sockets), 0.0, scales.rated_power_kw).sum(axis=-1)
    hour_sin, hour_cos = _cycle(site.hour / HOURS_PER_DAY)
    year_sin, year_cos = _cycle(site.hour_of_year / HOURS_PER_YEAR)
    week_sin, week_cos = _cycle(site.day_type / 7)
    pv = _divided(site.pv_kwh, scales.pv_kwp)
    price = _divided(site.price_usd_per_kwh, scales.highest_price_usd_per_kwh)
    site_part = np.stack(
        [
            hour_sin,
            hour_cos,
            year_sin,
            year_cos,
            week_sin,
            week_cos,
            *np.moveaxis(pv, -1, 0),
            _divided(site.load_kwh, 2 * scales.mean_load_kwh),
            *np.moveaxis(price, -1, 0),
            _divided(site.carbon_intensity_kg_per_kwh, scales.highest_carbon_intensity_kg_per_kwh),
            site.bess_soc,
            site.previous_net_kwh / scales.net_kw,
            site.day_peak_kw / scales.net_kw,
            np.minimum(1.0, scales.feeder_limit_kw / np.maximum(active_kw, 1e-9)),
            occupied.mean(axis=-1),
            _divided(needed.sum(axis=-1), 4 * scales.feeder_kw),
        ],
        axis=-1,
    )
    socket_part = np.stack(
        [
            occupied.astype(np.float64),
            np.where(occupied, sockets.soc, 0.0),
            np.where(occupied, np.maximum(0.0, sockets.required_soc - sockets.soc), 0.0),
            _divided(needed, scales.largest_battery_kwh),
            hours_left / STAY_SCALE_HOURS,
            laxity / LAXITY_SCALE_HOURS,
            np.broadcast_to(_divided(scales.rated_power_kw, scales.rated_power_kw.max()), needed.shape),
        ],
        axis=-1,
    )
    flat = socket_part.reshape(*socket_part.shape[:-2], -1)
    vector = np.concatenate([site_part, flat], axis=-1).astype(np.float32)
    return np.clip(vector, bounds[0], bounds[1])
