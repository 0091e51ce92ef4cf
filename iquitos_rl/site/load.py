"""The site's own consumption, which cannot be shifted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iquitos_rl.config.site import LoadConfig
from iquitos_rl.site.errors import DatasetError
from iquitos_rl.site.timeline import HOUR_OF_ROW, HOURS_PER_YEAR, in_hours

__all__ = ["make_load_kwh"]

_DECIMALS = 6
_LEAST_NOISE_FACTOR = 0.1
"""Keeps the load positive however large the noise is set."""


def make_load_kwh(
    config: LoadConfig, opening_hours: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw one year of load, kWh per hour, shape (8760,), which sums to ``config.annual_kwh``.

    An open hour counts 1 and a closed hour ``closed_fraction``, evening hours are multiplied by
    ``evening_factor``, and every hour by its own noise.

    Raises:
        DatasetError: the factors are zero in every hour.
    """
    profile = np.where(in_hours(HOUR_OF_ROW, opening_hours), 1.0, config.closed_fraction)
    profile = np.where(in_hours(HOUR_OF_ROW, config.evening_hours), config.evening_factor, 1.0) * profile
    noise = np.maximum(1.0 + config.noise_std * rng.standard_normal(HOURS_PER_YEAR), _LEAST_NOISE_FACTOR)
    profile = profile * noise
    if profile.sum() <= 0:
        raise DatasetError("load: closed_fraction and evening_factor leave no hour with any consumption")
    load = (profile * (config.annual_kwh / profile.sum())).round(_DECIMALS)
    # What rounding took or gave goes to the largest hour, so that the annual sum is exact.
    largest = int(np.argmax(load))
    load[largest] = round(load[largest] + config.annual_kwh - float(load.sum()), _DECIMALS)
    return load
