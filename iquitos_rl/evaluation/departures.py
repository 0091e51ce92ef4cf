"""The vehicles that left during a rollout: when they came, with what, and how they went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iquitos_rl.objectives import satisfaction, unserved_energy_kwh

__all__ = ["departures_of"]


def departures_of(
    sockets: Sequence[str],
    start_step: int,
    *,
    occupied: NDArray[np.bool_],
    hours_left: NDArray[np.floating[Any]],
    required_soc: NDArray[np.floating[Any]],
    capacity_kwh: NDArray[np.floating[Any]],
    start_soc: NDArray[np.floating[Any]],
    end_soc: NDArray[np.floating[Any]],
) -> pd.DataFrame:
    """One row for each vehicle that left, in the order of time.

    Args:
        sockets: their names.
        start_step: hour of the year of the first row.
        occupied: where a vehicle is connected, shape (hours, sockets), like all that follow.
        hours_left: connected hours left, this one included: a vehicle with 1 leaves at the end of the hour.
        required_soc: at departure.
        capacity_kwh: of the vehicles.
        start_soc, end_soc: states of charge at the start and at the end of each hour.

    Returns:
        Columns ``socket``, ``arrival_hour_of_year`` (the first hour seen, if the vehicle was there before),
        ``departure_hour_of_year`` (the last connected hour), ``arrival_soc``, ``soc`` (at departure),
        ``required_soc``, ``capacity_kwh``, ``satisfaction``, ``unserved_kwh``.
    """
    leaves = occupied & (hours_left == 1)
    arrives = occupied.copy()
    arrives[1:] &= ~occupied[:-1] | leaves[:-1]
    # The row of the latest arrival at each socket, hour by hour.
    rows = np.arange(len(occupied))[:, None]
    arrived = np.maximum.accumulate(np.where(arrives, rows, -1), axis=0)
    row, socket = leaves.nonzero()
    first = arrived[row, socket]
    soc, required = end_soc[row, socket].astype(float), required_soc[row, socket].astype(float)
    capacity = capacity_kwh[row, socket].astype(float)
    return pd.DataFrame(
        {
            "socket": np.asarray(sockets, object)[socket],
            "arrival_hour_of_year": start_step + first,
            "departure_hour_of_year": start_step + row,
            "arrival_soc": start_soc[first, socket].astype(float),
            "soc": soc,
            "required_soc": required,
            "capacity_kwh": capacity,
            "satisfaction": satisfaction(soc, required),
            "unserved_kwh": unserved_energy_kwh(soc, required, capacity),
        }
    )
