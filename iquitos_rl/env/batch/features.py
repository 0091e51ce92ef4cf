"""The ``features`` observation of many environments, written into one array that is used again and again.

The values are those of `iquitos_rl.env.observation.feature_vector`, in single precision. What does not depend
on actions comes from the years' tables; the ratings never change and are written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.env.batch.years import SiteYears
from iquitos_rl.env.observation import (
    LAXITY_SCALE_HOURS,
    SITE_FEATURES,
    SOCKET_FEATURES,
    STAY_SCALE_HOURS,
    FeatureLayout,
)

__all__ = ["FeatureWriter"]

Float32 = NDArray[np.float32]
SITE = list(SITE_FEATURES)
SOCKET = list(SOCKET_FEATURES)
STAY_PER_HOUR, LAXITY_PER_HOUR = np.float32(1.0 / STAY_SCALE_HOURS), np.float32(1.0 / LAXITY_SCALE_HOURS)


class FeatureWriter:
    """Writes observations.

    Args:
        years: of the site.
        environments: number of environments.
    """

    def __init__(self, years: SiteYears, environments: int) -> None:
        self.layout = FeatureLayout(years.socket_names)
        sockets = len(years.socket_names)
        self._site_features = years.tables.site_features
        scales = years.scales
        rated = scales[0].rated_power_kw
        shape = (environments, sockets)
        self._rated = rated.astype(np.float32)
        self._laxity_per_kwh = _repeated((1.0 / (rated * LAXITY_SCALE_HOURS)).astype(np.float32), shape)
        self._kwh_per_soc_of_kwh = (1.0 / scales[0].charger_efficiency).astype(np.float32)
        self._limit_kw = np.float32(scales[0].feeder_limit_kw)
        feeder = np.array([s.feeder_kw for s in scales])
        self._per_feeder_of_year = np.where(feeder > 0, 0.25 / np.where(feeder > 0, feeder, 1.0), 0.0)
        self._per_net_of_year = 1.0 / np.array([s.net_kw for s in scales])
        largest = np.array([s.largest_battery_kwh for s in scales])
        self._per_battery_of_year = np.where(largest > 0, 1.0 / np.where(largest > 0, largest, 1.0), 0.0)
        self._per_feeder, self._per_net = (np.zeros(environments, np.float32) for _ in range(2))
        self._per_battery = np.zeros((environments, 1), np.float32)
        self._socket_kwh = np.zeros(shape, np.float32)
        self.observation = np.zeros((environments, self.layout.size), np.float32)
        """The observations, overwritten by each `write`."""
        self._site = self.observation[:, self.layout.site_slice]
        # One view of shape (environments, sockets) for each feature of a socket.
        blocks = self.observation[:, self.layout.sockets_slice]
        view = blocks.reshape(environments, sockets, self.layout.socket_feature_count, copy=False)
        self._socket = {name: view[:, :, k] for k, name in enumerate(SOCKET)}
        highest = rated.max()
        self._socket["rated_power"][:] = rated / highest if highest > 0 else 0.0
        self._gap, self._needed, self._spare = (np.zeros(shape, np.float32) for _ in range(3))
        # NumPy compares arrays several times faster than an array and a number.
        self._zero, self._one, self._two, self._minus_one = (
            np.full(shape, bound, np.float32) for bound in (0, 1, 2, -1)
        )
        low, high = self.layout.bounds
        self._low, self._high = low[: len(SITE)], high[: len(SITE)]

    def start_year(self, environments: NDArray[np.intp], year: NDArray[np.intp]) -> None:
        """Take the scales of the years that environments begin."""
        self._per_feeder[environments] = self._per_feeder_of_year[year]
        self._per_net[environments] = self._per_net_of_year[year]
        self._per_battery[environments, 0] = self._per_battery_of_year[year]

    def set_capacities(self, capacity_kwh: NDArray[np.floating[Any]]) -> None:
        """Take the batteries at the sockets, shape (environments, sockets)."""
        np.multiply(capacity_kwh, self._kwh_per_soc_of_kwh, out=self._socket_kwh, casting="same_kind")

    def write(
        self,
        rows: NDArray[np.intp],
        occupied: NDArray[np.bool_],
        hours_left: Float32,
        required_soc: Float32,
        soc: Float32,
        ready: Float32,
        bess_soc: Float32 | None,
        previous_net_kwh: Float32,
        day_peak_kw: NDArray[np.floating[Any]],
    ) -> Float32:
        """Write the observations of the present hour.

        Args:
            rows: of the years' tables, shape (environments,).
            occupied, hours_left, required_soc, soc, ready: of the sockets, shape (environments, sockets);
                the last is 1 or 0.
            bess_soc: None without a BESS; shape (environments,), like the others.
            previous_net_kwh: of the hour before; 0 at the start of an episode.
            day_peak_kw: of the day so far.
        """
        gap, needed, spare, socket = self._gap, self._needed, self._spare, self._socket
        np.subtract(required_soc, soc, out=gap)
        np.maximum(gap, self._zero, out=gap)
        np.multiply(gap, self._socket_kwh, out=needed)
        socket["occupied"][:] = occupied
        socket["soc"][:] = soc
        socket["soc_gap"][:] = gap
        # Clipped first and copied then: an interleaved feature is slow to write for all but a copy.
        np.multiply(needed, self._per_battery, out=spare)
        np.minimum(spare, self._two, out=spare)
        socket["energy_needed"][:] = spare
        np.multiply(hours_left, STAY_PER_HOUR, out=spare)
        np.minimum(spare, self._one, out=spare)
        socket["hours_to_departure"][:] = spare
        np.multiply(hours_left, LAXITY_PER_HOUR, out=spare)
        np.multiply(needed, self._laxity_per_kwh, out=gap)
        np.subtract(spare, gap, out=spare)
        np.maximum(spare, self._minus_one, out=spare)
        np.minimum(spare, self._one, out=spare)
        socket["laxity"][:] = spare
        site = self._site
        self._site_features.take(rows, axis=0, out=site, mode="clip")
        if bess_soc is not None:
            site[:, BESS_SOC] = bess_soc
        np.multiply(previous_net_kwh, self._per_net, out=site[:, PREVIOUS_NET])
        np.multiply(day_peak_kw, self._per_net, out=site[:, DAY_PEAK], casting="same_kind")
        active_kw = np.vecdot(ready, self._rated)
        np.divide(self._limit_kw, np.maximum(active_kw, np.float32(1e-9)), out=site[:, FEEDER_SHARE])
        np.multiply(np.add.reduce(needed, axis=1), self._per_feeder, out=site[:, ENERGY_NEEDED])
        np.maximum(site, self._low, out=site)
        np.minimum(site, self._high, out=site)
        return self.observation


def _repeated(row: Float32, shape: tuple[int, int]) -> Float32:
    """A row for each environment: NumPy is faster on arrays of one shape."""
    return np.broadcast_to(row, shape).copy()


BESS_SOC, PREVIOUS_NET, DAY_PEAK, FEEDER_SHARE, ENERGY_NEEDED = (
    SITE.index(name)
    for name in ("bess_soc", "previous_net_consumption", "day_peak", "feeder_share", "energy_needed")
)
