"""What happens in an hour of many environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Hour"]

Float = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]
Index = NDArray[np.intp]


@dataclass
class Hour:
    """The hour that has just been simulated; arrays with a leading axis of environments, kWh.

    They are overwritten by the next step, or replaced by it: copy what is to be kept.

    Attributes:
        row: of each environment in its year.
        reward: sum of the components.
        components: weighted, normalised, negative, shape (environments, 5).
        increments: of the objectives, in their own units, shape (environments, 5).
        net_kwh: net consumption of the site; below 0 for export.
        cost_usd, emission_kg: as CityLearn counts them.
        pv_kwh, load_kwh, price, carbon_intensity: of the tables.
        bess_kwh: electricity consumption of the BESS, below 0 when it gives.
        bess_soc: at the end of the hour.
        sockets_kwh: electricity consumption of the sockets, shape (environments, sockets).
        sockets_balance_kwh: what vehicle batteries took (before their losses) or gave.
        sockets_root: one-way efficiencies of the vehicles' batteries in this hour.
        sockets_soc: at the end of the hour; 0 without a vehicle.
        unserved_kwh, shortfall, departures: of the vehicles that left at the end of the hour.
        storage_loss_kwh: of the BESS and of vehicle-to-grid sockets.
        day_peak_kw: highest import of the day so far, this hour included.
    """

    row: Index
    reward: Float
    components: Float
    increments: Float
    net_kwh: Float32
    cost_usd: Float32
    emission_kg: Float32
    pv_kwh: Float32
    load_kwh: Float32
    price: Float32
    carbon_intensity: Float32
    bess_kwh: Float32
    bess_soc: Float32
    sockets_kwh: Float32
    sockets_balance_kwh: Float32
    sockets_root: Float
    sockets_soc: Float32
    unserved_kwh: Float
    shortfall: Float
    departures: Index
    storage_loss_kwh: Float
    day_peak_kw: Float
